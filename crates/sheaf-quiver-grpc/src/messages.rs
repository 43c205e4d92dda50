//! What is said over the wire: the fields of Quiver's protocol that are used here, with its numbers.

use bytes::Bytes;
use sheaf_engines::ReadPoint;

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetPointsRequest {
    #[prost(string, tag = "1")]
    pub collection: String,
    #[prost(string, repeated, tag = "2")]
    pub ids: Vec<String>,
    #[prost(bool, tag = "3")]
    pub with_vector: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetPointsResponse {
    #[prost(message, repeated, tag = "1")]
    pub points: Vec<Point>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Point {
    #[prost(string, tag = "1")]
    pub id: String,
    /// Packed floats, which are little-endian bytes: taken as such, not one by one.
    #[prost(bytes = "bytes", tag = "2")]
    pub vector: Bytes,
    /// JSON.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
}

impl Point {
    /// `None`: its vector ends within a number.
    pub fn read(self) -> Option<ReadPoint> {
        let (numbers, []) = self.vector.as_chunks::<4>() else { return None };
        let vector = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Some(ReadPoint { id: self.id, vector, payload: self.payload })
    }
}
