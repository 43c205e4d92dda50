//! Reads the 20,000 real vectors that the tests and figures use, or, where those aren't, the 5,000 that the repository has.

use std::path::PathBuf;

use half::f16;

pub const DIM: usize = 384;

/// The file in `$SHEAF_DATA_DIR` or in the folder `shared/data` beside the repository; else its smaller twin in `data`.
pub fn file(name: &str) -> PathBuf {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let beside = PathBuf::from(repository).join("../shared/data");
    let path = std::env::var_os("SHEAF_DATA_DIR").map_or(beside, PathBuf::from).join(name);
    if path.exists() {
        return path;
    }
    let name = name.replace("wordnet-20k", "wordnet-5k").replace("wordnet-queries", "queries");
    println!("the 20,000 vectors aren't here (set SHEAF_DATA_DIR): reading data/{name} instead");
    PathBuf::from(repository).join("data").join(name)
}

/// The rows of a float16 matrix in NumPy's format, as float32.
pub fn matrix(name: &str) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(file(name)).expect("a readable file");
    assert_eq!(&bytes[..6], b"\x93NUMPY", "{name} is not a NumPy file");
    assert_eq!(bytes[6], 1, "{name} has another version of the format");
    let header_bytes = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..10 + header_bytes]);
    assert!(header.contains("'<f2'") && header.contains(", 384)"), "unexpected header: {header}");
    let numbers: Vec<f32> = bytes[10 + header_bytes..]
        .chunks_exact(2)
        .map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32())
        .collect();
    numbers.chunks_exact(DIM).map(<[f32]>::to_vec).collect()
}
