//! What a row of a collection's table says: whose point it is, what is in it, and whether a call may see it.
//!
//! Decides what counts as damage. Asks nobody.

use std::collections::BTreeMap;

use sheaf_engines::{Accept, EngineError, Filter};
use sheaf_types::{CollectionId, PointHash, PointId, StoredPoint};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::error::damaged;
use crate::key::point_id;
use crate::value::{JsonText, Numbers};
use crate::write::hash_of;

/// Reads rows of the database that people know by this name.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub place: &'a str,
}

impl Reader<'_> {
    /// The points of rows of `bodies_sql`, each checked against its hash.
    pub fn points(
        self,
        id: CollectionId,
        rows: &[Row],
    ) -> Result<BTreeMap<PointId, StoredPoint>, EngineError> {
        let mut points = BTreeMap::new();
        for row in rows {
            let point = self.row_id(row)?;
            let vector: Numbers = self.field(row, 3)?;
            let payload: Option<JsonText<'_>> = self.field(row, 4)?;
            let body = vector.body(payload.map(|text| text.0));
            let hash = PointHash::of(id, &point, body.as_bytes());
            if hash_of(self.field(row, 2)?) != Some(hash) {
                return Err(damaged(
                    self.place,
                    &format!("a point of {id} doesn't fit its hash: {point:?}"),
                ));
            }
            points.insert(point.clone(), StoredPoint { id: point, hash, body });
        }
        Ok(points)
    }

    /// The id in the first two columns.
    pub fn row_id(self, row: &Row) -> Result<PointId, EngineError> {
        let id = point_id(self.field(row, 0)?, self.field(row, 1)?);
        id.ok_or_else(|| damaged(self.place, "an id that is no text"))
    }

    /// A column of a row of a collection's table.
    pub fn field<'a, T: FromSql<'a>>(self, row: &'a Row, column: usize) -> Result<T, EngineError> {
        row.try_get(column).map_err(|error| damaged(self.place, &error.to_string()))
    }

    /// Whether a call may see the point of this row, whose payload is in that column, if it has a filter.
    pub fn is_wanted(
        self,
        row: &Row,
        point: &PointId,
        accept: &Accept,
        filter: Option<&Filter>,
        payload: usize,
    ) -> Result<bool, EngineError> {
        if !accept.takes(point.placement_key()) {
            return Ok(false);
        }
        let Some(filter) = filter else { return Ok(true) };
        let text: Option<JsonText<'_>> = self.field(row, payload)?;
        Ok(filter.holds_for_text(text.map(|text| text.0)))
    }
}
