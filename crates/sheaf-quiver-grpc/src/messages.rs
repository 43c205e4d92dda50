//! What is said over the wire: the fields of Quiver's protocol that are used here, with its numbers.

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
    #[prost(float, repeated, tag = "2")]
    pub vector: Vec<f32>,
    /// JSON.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
}

impl From<Point> for ReadPoint {
    fn from(point: Point) -> Self {
        Self { id: point.id, vector: point.vector, payload: point.payload }
    }
}
