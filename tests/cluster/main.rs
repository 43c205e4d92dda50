//! End-to-end tests on real processes; each module is one promise. Needs the built binary, see `binary`.
