//! Sealpost.
fn main() {}
