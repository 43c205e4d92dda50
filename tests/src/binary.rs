//! Where the binary under test is. Never builds it.

use std::path::PathBuf;

/// The path of `sheaf`.
///
/// # Panics
/// There is none: the message says how to make it.
pub fn sheaf() -> PathBuf {
    if let Some(path) = std::env::var_os("SHEAF_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "SHEAF_BIN is {}, which is no file", path.display());
        return path;
    }
    let name = format!("sheaf{}", std::env::consts::EXE_SUFFIX);
    // A test runs as <target>/<profile>/deps/<name>; the binary is beside `deps`.
    let test = std::env::current_exe().expect("the system knows the path of this test");
    let beside = test.ancestors().skip(1).take(2).map(|folder| folder.join(&name));
    let found = beside.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "there is no {name} beside {}: run `cargo build -p sheaf` first, or set SHEAF_BIN to the binary",
            test.display()
        )
    })
}
