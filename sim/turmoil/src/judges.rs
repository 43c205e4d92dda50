//! The checkers that this harness can tell enough, by what it sees from outside of the real shells.
//!
//! Not among them: those of what a gate's core admits and an engine applies (I7, I8, I10, I11), which the pure harness sees.

use sheaf_checkers::intent_first::IntentFirst;
use sheaf_checkers::{Checker, Fact, Kind, Moment, Panel, Violation};
use sheaf_checkers::{
    acked_survives, commit_proven, converges, gather_exact, honest_answers, ids_fresh,
    linearizable, map_monotone, one_writer, total_map,
};

/// I4 for a coordinator's directives. A gate's report is seen when it leaves the gate, a moment after it was true; what is
/// durable may be newer by then, so reports are kept from this checker.
#[derive(Default)]
struct Directives(IntentFirst);

impl Checker for Directives {
    fn hears(&self, kind: Kind) -> bool {
        kind != Kind::Reported && self.0.hears(kind)
    }

    fn judge(&mut self, moment: Moment, fact: &Fact) -> Result<(), Violation> {
        self.0.judge(moment, fact)
    }
}

pub fn panel() -> Panel {
    Panel::of(vec![
        Box::new(converges::Converges::default()),
        Box::new(map_monotone::MapMonotone::default()),
        Box::new(total_map::TotalMap::default()),
        Box::new(ids_fresh::IdsFresh::default()),
        Box::new(Directives::default()),
        Box::new(commit_proven::CommitProven::default()),
        Box::new(one_writer::OneWriter::default()),
        Box::new(honest_answers::HonestAnswers::default()),
        Box::new(acked_survives::AckedSurvives::default()),
        Box::new(gather_exact::GatherExact::default()),
        Box::new(linearizable::Linearizable::default()),
    ])
}
