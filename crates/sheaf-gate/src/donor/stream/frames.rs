//! From what the engine has read to the frame that carries it. Decides no order: frames are numbered as they are made.

use std::collections::BTreeSet;

use sheaf_protocol::{Content, Delta, Position, Range, Through};
use sheaf_types::limits::COPY_FRAME_BYTES_MAX;
use sheaf_types::{CollectionId, Digest, PointId, StoredPoint, mark};

use super::{Reading, Stream};
use crate::capture::Capture;
use crate::context::Context;
use crate::donor::DonorGround;
use crate::donor::pace::Pace;
use crate::event::{EngineReply, Page};

impl Stream {
    /// The engine has read what was asked for.
    pub fn on_engine(
        &mut self,
        reply: EngineReply,
        capture: &mut Capture,
        pace: &mut Pace,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        let Some(reading) = self.reading.take() else { return };
        if self.pass.is_none() {
            if let Reading::Drain { collection, ids } = reading {
                mark!("dirty ids are read for a stream that was given up");
                self.put_back(capture, collection, ids); // The stream was reset meanwhile.
            }
            return;
        }
        match (reading, reply) {
            (Reading::Next { collection, after, bodies: true }, EngineReply::Page(page)) => {
                self.send_range(collection, after, page, None, pace, ground, ctx);
            }
            (Reading::Next { collection, after, bodies: false }, EngineReply::Page(page)) => {
                self.send_check(collection, after, &page, capture, ground, ctx);
            }
            (Reading::Repair { range }, EngineReply::Page(page)) => {
                let Range { collection, after, through } = range;
                self.send_range(collection, after, page, Some(through), pace, ground, ctx);
            }
            (Reading::Drain { collection, ids }, EngineReply::Points(points)) => {
                self.send_drain(collection, ids, points, capture, ground, ctx);
            }
            (Reading::Drain { .. } | Reading::Repair { .. }, EngineReply::NoCollection(_)) => {}
            (Reading::Next { collection, .. }, EngineReply::NoCollection(_)) => {
                self.skip_collection(collection);
            }
            (reading, _) => {
                match reading {
                    Reading::Drain { collection, ids } => {
                        mark!("dirty ids can't be read and stay dirty");
                        self.put_back(capture, collection, ids);
                    }
                    Reading::Repair { range } => {
                        mark!("a range that is to be repaired can't be read");
                        if let Some(pass) = &mut self.pass {
                            pass.repairs.push_front(range);
                        }
                    }
                    Reading::Next { .. } => {}
                }
                self.retry_at = self.retry_later(ctx.now);
            }
        }
    }

    fn put_back(&self, capture: &mut Capture, collection: CollectionId, ids: Vec<PointId>) {
        if let Some(list) = capture.list_mut(self.mv.recipient) {
            for id in ids {
                list.mark((collection, id));
            }
        }
    }

    fn skip_collection(&mut self, collection: CollectionId) {
        mark!("a collection is gone in the middle of a pass");
        if let Some(pass) = &mut self.pass {
            pass.cursor = Position::At { collection, through: Through::CollectionEnd };
        }
    }

    /// Sends a range whole. `repair`: the end of the range that is being repaired, behind the cursor.
    #[expect(clippy::too_many_arguments, reason = "one range with its bounds and surroundings")]
    fn send_range(
        &mut self,
        collection: CollectionId,
        after: Option<PointId>,
        page: Page,
        repair: Option<Option<PointId>>,
        pace: &mut Pace,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        let Some(pass) = &mut self.pass else { return };
        let through = match &repair {
            None => page.looked_through,
            Some(end) => page.looked_through.filter(|looked| Some(looked) != end.as_ref()),
        };
        let range = match (&repair, &through) {
            (Some(end), Some(looked)) => {
                pass.repairs.push_front(Range {
                    collection,
                    after: Some(looked.clone()),
                    through: end.clone(),
                });
                Range { collection, after, through }
            }
            (Some(end), None) => Range { collection, after, through: end.clone() },
            (None, _) => {
                let range = Range { collection, after, through };
                pass.cursor = Position::end_of(&range);
                range
            }
        };
        let points: Vec<StoredPoint> =
            page.points.into_iter().filter_map(|scanned| scanned.point).collect();
        let bytes = points.iter().map(bytes_of).sum();
        self.count_sent(points.len() as u64, bytes);
        pace.sent(points.len() as u64, bytes, &ground.order.copy, ctx.now);
        self.send(Content::Replace { range, points }, Digest::default(), ground, ctx);
    }

    fn send_check(
        &mut self,
        collection: CollectionId,
        after: Option<PointId>,
        page: &Page,
        capture: &Capture,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        let Some(pass) = &mut self.pass else { return };
        let range = Range { collection, after, through: page.looked_through.clone() };
        pass.cursor = Position::end_of(&range);
        let except: BTreeSet<PointId> = capture.unsettled_in(self.mv.recipient, &range);
        if except.iter().map(|id| id.as_str().len()).sum::<usize>() > COPY_FRAME_BYTES_MAX {
            pass.repaired_ranges += 1; // Too many to leave out in one frame: the range is sent whole, and compared later.
            pass.repairs.push_back(range);
            return;
        }
        let settled = page.points.iter().filter(|scanned| !except.contains(&scanned.id));
        let digest = Digest::of(settled.map(|scanned| &scanned.hash));
        let content = Content::Check { range, digest, except: except.into_iter().collect() };
        self.send(content, digest, ground, ctx);
    }

    fn send_drain(
        &mut self,
        collection: CollectionId,
        ids: Vec<PointId>,
        points: Vec<Option<StoredPoint>>,
        capture: &mut Capture,
        ground: &DonorGround<'_>,
        ctx: &mut Context<'_>,
    ) {
        assert_eq!(ids.len(), points.len(), "I7 capture-gapless: an id was read but not answered");
        let mut adds = Digest::default();
        let mut bytes = 0;
        let mut deltas = Vec::with_capacity(ids.len());
        let mut later = Vec::new();
        for (id, point) in ids.into_iter().zip(points) {
            if bytes >= COPY_FRAME_BYTES_MAX as u64 {
                later.push(id);
                continue;
            }
            deltas.push(match point {
                Some(point) => {
                    adds.add(point.hash);
                    bytes += bytes_of(&point);
                    Delta::Put { collection, point }
                }
                None => Delta::Deleted { collection, id },
            });
        }
        if !later.is_empty() {
            self.put_back(capture, collection, later);
        }
        // Not paced: writers decide how many there are, and those who outrun the limit would leave nothing of it to the pass.
        self.count_sent(deltas.len() as u64, bytes);
        self.send(Content::Drain { deltas }, adds, ground, ctx);
    }

    fn count_sent(&mut self, points: u64, bytes: u64) {
        self.sent_points += points;
        self.sent_bytes += bytes;
    }
}

fn bytes_of(point: &StoredPoint) -> u64 {
    (point.body.as_bytes().len() + point.id.as_str().len()) as u64
}
