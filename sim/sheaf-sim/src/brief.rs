//! Messages in one line each, for people who read a log.

use sheaf_protocol::{Content, Directive, Frame, GateReport};

use crate::wire::{Message, Reply};
use crate::world::Happening;

/// A happening in one line.
pub fn happening(happening: &Happening) -> String {
    match happening {
        Happening::Arrive { call, to, message: what } => {
            format!("→ {to:?} #{}: {}", call.0, message(what))
        }
        Happening::Answered { call, reply: what } => format!("← #{}: {}", call.0, reply(what)),
        other => format!("{other:?}"),
    }
}

/// A request in one line.
pub fn message(message: &Message) -> String {
    match message {
        Message::Directive { directive: what, wait_ms, seen } => {
            format!(
                "directive {} (wait {wait_ms} ms, seen {} {})",
                directive(what),
                seen.incarnation,
                seen.seq
            )
        }
        Message::Frame(what) => frame(what),
        Message::Data(request) => format!("data {request:?}"),
        other => format!("{other:?}"),
    }
}

/// An answer in one line.
pub fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Directed(Ok(what)) | Reply::Report(what) => report(what),
        Reply::Map(map) => {
            let shards: Vec<String> =
                map.shards().iter().map(|shard| shard.id.to_string()).collect();
            format!("map {} committed {} of {}", map.version(), map.committed(), shards.join(" "))
        }
        other => format!("{other:?}"),
    }
}

fn directive(directive: &Directive) -> String {
    let order = directive.order.as_ref().map(|order| {
        format!(
            "{} {:?} {} next {} {:?}",
            order.transition,
            order.stage,
            order.attempt,
            order.next.version(),
            order.copy
        )
    });
    format!(
        "{} {} to {} map {} order [{}] sweep {} retired {}",
        directive.term,
        directive.revision,
        directive.shard,
        directive.map.version(),
        order.unwrap_or_default(),
        directive.sweep,
        directive.retired
    )
}

fn frame(frame: &Frame) -> String {
    let content = match &frame.content {
        Content::Replace { range, points } => {
            let ids: Vec<_> =
                points.iter().map(|point| (&point.id, point.body.payload())).collect();
            format!("replace {range:?} {ids:?}")
        }
        Content::Drain { deltas } => {
            let ids: Vec<_> = deltas
                .iter()
                .map(|delta| (delta.id(), matches!(delta, sheaf_protocol::Delta::Put { .. })))
                .collect();
            format!("drain {ids:?}")
        }
        Content::Check { range, digest, except } => {
            format!("check {range:?} {digest} except {except:?}")
        }
        Content::BeginPass => "begin pass".to_owned(),
        Content::Seal { attempt, digest } => format!("seal {attempt} {digest}"),
    };
    let stream = frame.stream;
    format!(
        "frame {} {}→{} {}.{} seq {}: {content}",
        frame.transition,
        frame.donor,
        frame.recipient,
        stream.incarnation,
        stream.number,
        frame.seq
    )
}

fn report(report: &GateReport) -> String {
    let outgoing: Vec<String> = report
        .outgoing
        .iter()
        .map(|out| {
            let proof = out.proof.map(|proof| {
                format!(" proof {} {} {}", proof.attempt, proof.donor, proof.recipient)
            });
            format!(
                "→{} {:?} passes {} dirty {}{}",
                out.to,
                out.state,
                out.passes,
                out.dirty,
                proof.unwrap_or_default()
            )
        })
        .collect();
    let incoming: Vec<String> = report
        .incoming
        .iter()
        .map(|inc| {
            format!("←{} {} {:?}", inc.from, inc.seq, inc.sealed.map(|sealed| sealed.attempt))
        })
        .collect();
    format!(
        "report {:?} {} seq {} {} {} map {:?} clean {} transition {:?} prepared {} catalogue {} {} {}",
        report.shard.map(|shard| shard.0),
        report.incarnation,
        report.seq,
        report.term,
        report.revision,
        report.map_version.map(|version| version.0),
        report.clean,
        report.transition.map(|id| id.0),
        report.prepared,
        report.catalogue_ready,
        outgoing.join(" "),
        incoming.join(" ")
    )
}
