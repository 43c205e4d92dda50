//! Vectors and payloads on PostgreSQL's wire: every bit of a float and every byte of a JSON text stays as it is.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use sheaf_types::PointBody;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

type Outcome<T> = Result<T, Box<dyn Error + Sync + Send>>;

/// The bytes of a vector as a body has them, little-endian.
#[derive(Debug)]
pub struct VectorBytes<'a>(pub &'a [u8]);

impl ToSql for VectorBytes<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Outcome<IsNull> {
        out.put_u16(u16::try_from(self.0.len() / 4)?);
        out.put_u16(0);
        for number in self.0.chunks_exact(4) {
            out.extend(number.iter().rev());
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}

/// The numbers of a point, from either kind of column.
#[derive(Debug)]
pub struct Numbers(pub Vec<f32>);

impl<'a> FromSql<'a> for Numbers {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Outcome<Self> {
        if *ty == Type::FLOAT4_ARRAY {
            return Vec::from_sql(ty, raw).map(Self);
        }
        let (head, numbers) = raw.split_at_checked(4).ok_or("a vector without its head")?;
        let dim = u16::from_be_bytes([head[0], head[1]]);
        if numbers.len() != usize::from(dim) * 4 {
            return Err("a vector of another length than it says".into());
        }
        let numbers = numbers.chunks_exact(4);
        Ok(Self(numbers.map(|n| f32::from_be_bytes([n[0], n[1], n[2], n[3]])).collect()))
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector" || *ty == Type::FLOAT4_ARRAY
    }
}

impl Numbers {
    /// The body that they and a payload make.
    pub fn body(&self, payload: Option<&str>) -> PointBody {
        PointBody::encode(&self.0, payload)
    }
}

/// A text that is JSON.
#[derive(Debug)]
pub struct JsonText<'a>(pub &'a str);

impl ToSql for JsonText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Outcome<IsNull> {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for JsonText<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Outcome<Self> {
        Ok(Self(std::str::from_utf8(raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }
}
