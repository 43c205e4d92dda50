//! Pages in the order of ids, on top of Quiver's offsets.
//!
//! Quiver rescans from the start for each page and counts offsets in a list that changes under it. So pages are large, what
//! one has shown is kept as a window, and a page counts only when it overlaps what was seen: begun too late, after deletes in front of
//! it, it is asked for anew from further back. Where many points can be read at once, pages show ids only, and what is wanted of them
//! is read so.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use sheaf_types::{PointBody, PointHash, PointId, StoredPoint};

use super::many::{MANY_AT_ONCE, points_at_once};
use super::pushdown::pushed_down;
use super::server::CallError;
use super::windows::{End, Known, Next};
use super::wire::{Row, read_rows_of};
use super::{Held, Inner};
use crate::{Accept, EngineError, Filter, Scan, ScanPage, ScannedPoint};

const PAGE_POINTS_MIN: usize = 64;
/// Bytes of vectors in a page, about.
const PAGE_BYTES: usize = 16 * 1024 * 1024;
/// Documents in a page, before it is known how large they are.
const FIRST_PAGE_DOCUMENTS: usize = 64;
/// Requests for one page: each doubles the distance at least, so more are needed only when the list changes faster than it is read.
const TRIES_MAX: usize = 64;

/// Which points a walk is to see, and what of them.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub filter: Option<&'a Value>,
    pub payloads: bool,
    pub vectors: bool,
}

impl Wanted<'_> {
    /// The same points, without what is theirs.
    fn ids_only(self) -> Self {
        Self { payloads: false, vectors: false, ..self }
    }
}

/// Points behind an id, none left out.
pub struct Stretch {
    pub rows: Vec<Row>,
    /// There is nothing behind them.
    pub is_last: bool,
}

/// Points as they are; `None`: it is gone.
type Block = Vec<(PointId, Option<(PointHash, PointBody)>)>;

impl Inner {
    /// One page of Quiver's, with the number of points that was asked for; fewer when they were too many bytes.
    async fn page(
        &self,
        held: &Held,
        offset: usize,
        wanted: Wanted<'_>,
        points: usize,
    ) -> Result<(Vec<Row>, usize), EngineError> {
        // Documents may be of any size.
        let least = if held.config().holds_documents() { 1 } else { (points / 16).max(1) };
        let mut points = points;
        loop {
            let body = json!({
                "offset": offset, "limit": points, "filter": wanted.filter,
                "with_payload": wanted.payloads, "with_vector": wanted.vectors,
            });
            match self.fetch(held.name(), &body).await {
                Ok(answer) => {
                    let rows = read_rows_of(held.config(), &answer)?;
                    if wanted.vectors && !rows.is_empty() {
                        held.document_bytes.store(answer.len() / rows.len(), Ordering::Relaxed);
                    }
                    return Ok((rows, points));
                }
                // Perhaps too large, or too slow.
                Err(CallError::Lost(_)) if points > least => points = (points / 16).max(least),
                Err(error) => return Err(self.missing(held, error)),
            }
        }
    }

    /// The next points behind `after`. `offset` is where they may begin; it is left at the last one that was seen.
    pub async fn behind(
        &self,
        held: &Held,
        after: Option<&PointId>,
        offset: &mut usize,
        wanted: Wanted<'_>,
    ) -> Result<Stretch, EngineError> {
        let limit = page_points(held, wanted).min(self.options.page_points_max).max(2);
        let mut back = 1;
        for _ in 0..TRIES_MAX {
            let (mut rows, asked) = self.page(held, *offset, wanted, limit).await?;
            let overlaps = rows.first().is_some_and(|row| Some(&row.id) <= after);
            if *offset > 0 && !overlaps {
                *offset = offset.saturating_sub(back);
                back *= 8;
                continue;
            }
            let is_last = rows.len() < asked;
            *offset += rows.len().saturating_sub(1);
            rows.retain(|row| Some(&row.id) > after);
            if !rows.is_empty() || is_last {
                return Ok(Stretch { rows, is_last });
            }
        }
        Err(EngineError::Unavailable(format!(
            "the collection {} changes faster than it can be read; nothing was changed, ask again",
            held.name()
        )))
    }

    /// The offset of the last point that isn't behind `after`, about.
    async fn offset_of(&self, held: &Held, after: Option<&PointId>) -> Result<usize, EngineError> {
        let Some(after) = after else { return Ok(0) };
        if let Some(offset) = held.windows.offset_hint(after) {
            return Ok(offset);
        }
        let nothing = Wanted { filter: None, payloads: false, vectors: false };
        let (mut low, mut high) = (0, self.points_of(held).await? as usize);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let (rows, _) = self.page(held, middle, nothing, 1).await?;
            if rows.first().is_some_and(|row| row.id <= *after) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Reads a window behind `after`.
    async fn load(&self, held: &Held, after: Option<&PointId>) -> Result<(), EngineError> {
        let mut offset = self.offset_of(held, after).await?;
        let watch = held.windows.watch();
        let bodies = self.options.many_reads.is_none();
        let wanted = Wanted { filter: None, payloads: bodies, vectors: bodies };
        let Stretch { rows, is_last } = self.behind(held, after, &mut offset, wanted).await?;
        let through = rows.last().filter(|_| !is_last).map(|row| row.id.clone());
        if let Some(through) = &through {
            held.windows.remember_end(through, offset);
        }
        let known = |row: Row| {
            if !bodies {
                return Some((row.id, Known::Unread));
            }
            let point = row.into_point(held.id())?;
            Some((point.id, Known::Point(point.hash, point.body)))
        };
        let points = rows.into_iter().filter_map(known).collect();
        held.windows.install(&watch, after.cloned(), through, points);
        Ok(())
    }

    /// Reads the ids of a window from the start, in the background, when there is none: writes that come meanwhile are added to it.
    pub fn load_ahead(self: &Arc<Self>, held: &Arc<Held>) {
        // Where a page shows the points themselves, those written since would have to be read one by one.
        if self.options.many_reads.is_none() || held.windows.know_the_first() {
            return;
        }
        let (inner, held) = (Arc::clone(self), Arc::clone(held));
        tokio::spawn(async move {
            let Ok(_turn) = held.windows.turn().try_lock() else { return };
            if held.windows.know_the_first() {
                return; // Another scan has loaded it.
            }
            if let Err(error) = inner.load(&held, None).await {
                tracing::debug!(%error, "a scan that comes has to ask Quiver for its ids itself");
            }
        });
    }

    /// What a window knows for the scan; loads one when there is none.
    async fn next(&self, held: &Held, scan: &Scan) -> Result<Next, EngineError> {
        if let Some(next) = held.windows.next(scan) {
            return Ok(next);
        }
        let _turn = held.windows.turn().lock().await;
        if let Some(next) = held.windows.next(scan) {
            return Ok(next);
        }
        self.load(held, scan.after.as_ref()).await?;
        // Writes may have made it too large already.
        held.windows.next(scan).ok_or_else(|| {
            EngineError::Unavailable("too much is written during a scan; ask again".into())
        })
    }

    pub async fn scan(&self, held: &Held, scan: Scan) -> Result<ScanPage, EngineError> {
        let mut page = ScanPage::default();
        if scan.through.is_some() && scan.after >= scan.through {
            return Ok(page);
        }
        let next = self.next(held, &scan).await?;
        // A page with bodies may be full with the first block; then the next one would be read in vain.
        let at_once = if scan.bodies { 1 } else { MANY_AT_ONCE };
        let blocks: Vec<_> = next.points.chunks(points_at_once(held)).map(<[_]>::to_vec).collect();
        let reads = blocks.into_iter().map(|block| self.fresh(held, block));
        let mut reads = std::pin::pin!(stream::iter(reads).buffered(at_once));
        while let Some(block) = reads.try_next().await? {
            if add_to_page(&scan, block, &mut page).is_break() {
                return Ok(page);
            }
        }
        page.looked_through = match next.end {
            End::More => next.looked,
            End::Scan => None,
            End::Window { number, through } => {
                let last = next.looked.as_ref().or(scan.after.as_ref());
                held.windows.passed(number, last);
                through.filter(|end| scan.through.as_ref().is_none_or(|through| end < through))
            }
        };
        Ok(page)
    }

    /// The points with these ids, which nobody may write meanwhile. Those that a window knows aren't asked for: a recipient has just
    /// looked where its next points will be.
    pub async fn current(
        &self,
        held: &Held,
        ids: &BTreeSet<PointId>,
    ) -> Result<Vec<Option<StoredPoint>>, EngineError> {
        let known: Vec<_> = ids.iter().map(|id| (id, held.windows.known(id))).collect();
        let unknown = known.iter().filter(|(_, known)| known.is_none());
        let unknown: Vec<PointId> = unknown.map(|(id, _)| (*id).clone()).collect();
        let mut read = self.read(held, unknown).await?.into_iter();
        let point = |(id, known): (&PointId, Option<Option<(PointHash, PointBody)>>)| match known {
            Some(known) => known.map(|(hash, body)| StoredPoint { id: id.clone(), hash, body }),
            None => read.next().flatten(),
        };
        Ok(known.into_iter().map(point).collect())
    }

    /// The points as they are now: those that nobody knows are read.
    async fn fresh(
        &self,
        held: &Held,
        points: Vec<(PointId, Known)>,
    ) -> Result<Block, EngineError> {
        let unread = points.iter().filter(|(_, known)| matches!(known, Known::Unread));
        let unread: Vec<PointId> = unread.map(|(id, _)| id.clone()).collect();
        let mut read = self.read(held, unread).await?.into_iter();
        let fresh = |(id, known)| match known {
            Known::Point(hash, body) => (id, Some((hash, body))),
            Known::Unread => (id, read.next().flatten().map(|point| (point.hash, point.body))),
        };
        Ok(points.into_iter().map(fresh).collect())
    }

    /// Shows every point to `see`, as far as Quiver can tell that the filter may hold for it.
    pub async fn walk(
        &self,
        held: &Held,
        wanted: Wanted<'_>,
        mut see: impl FnMut(Vec<Row>),
    ) -> Result<(), EngineError> {
        let (mut after, mut offset): (Option<PointId>, usize) = (None, 0);
        let reads_apart = wanted.vectors && self.options.many_reads.is_some();
        let shown = if reads_apart { wanted.ids_only() } else { wanted };
        loop {
            let stretch = self.behind(held, after.as_ref(), &mut offset, shown).await?;
            let last = stretch.rows.last().map(|row| row.id.clone());
            if reads_apart {
                let ids: Vec<PointId> = stretch.rows.into_iter().map(|row| row.id).collect();
                for ids in ids.chunks(points_at_once(held)) {
                    see(self.many(held, ids).await?);
                }
            } else {
                see(stretch.rows);
            }
            if stretch.is_last {
                return Ok(());
            }
            after = last;
        }
    }

    pub async fn count(
        &self,
        held: &Held,
        accept: Accept,
        filter: Option<Filter>,
    ) -> Result<u64, EngineError> {
        if let (Accept::All, None) = (&accept, &filter) {
            return self.points_of(held).await;
        }
        // What a document has for Quiver is not its payload alone.
        let is_pushed = !held.config().holds_documents();
        let pushed = filter.as_ref().filter(|_| is_pushed).and_then(pushed_down);
        let wanted = Wanted { filter: pushed.as_ref(), payloads: filter.is_some(), vectors: false };
        let mut count = 0;
        self.walk(held, wanted, |rows| {
            let counts = |row: &&Row| {
                accept.takes(row.id.placement_key())
                    && filter.as_ref().is_none_or(|f| f.holds_for_text(row.payload.as_deref()))
            };
            count += rows.iter().filter(counts).count() as u64;
        })
        .await?;
        Ok(count)
    }
}

/// Adds those of the points that the scan wants, until the page is full.
fn add_to_page(scan: &Scan, block: Block, page: &mut ScanPage) -> ControlFlow<()> {
    let size = |id: &PointId, body: &PointBody| id.as_str().len() + body.as_bytes().len();
    let bodies = page.points.iter().filter_map(|point| Some((&point.id, point.body.as_ref()?)));
    let mut bytes: usize = bodies.map(|(id, body)| size(id, body)).sum();
    for (id, point) in block {
        if let Some((hash, body)) = point
            && scan.filter.as_ref().is_none_or(|filter| filter.holds_for_text(body.payload()))
        {
            let size = size(&id, &body);
            if scan.bodies && !page.points.is_empty() && bytes + size > scan.bytes_max {
                return ControlFlow::Break(());
            }
            bytes += size;
            let body = scan.bodies.then_some(body);
            page.points.push(ScannedPoint { id: id.clone(), hash, body });
        }
        page.looked_through = Some(id);
    }
    ControlFlow::Continue(())
}

/// Points in one page: as many as are not too many bytes.
fn page_points(held: &Held, wanted: Wanted<'_>) -> usize {
    if held.config().holds_documents() && (wanted.vectors || wanted.payloads) {
        let bytes = held.document_bytes.load(Ordering::Relaxed);
        return PAGE_BYTES.checked_div(bytes).unwrap_or(FIRST_PAGE_DOCUMENTS);
    }
    let vector_bytes = if wanted.vectors { held.config().dim as usize * 12 } else { 0 };
    let payload_bytes = if wanted.payloads { 512 } else { 0 };
    (PAGE_BYTES / (64 + vector_bytes + payload_bytes)).max(PAGE_POINTS_MIN)
}
