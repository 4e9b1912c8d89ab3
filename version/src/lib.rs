//! What a program says to `--version`: which one it is and how it was built, in the same form for all. It holds nothing of the
//! machine that built it, so that a build can be repeated elsewhere, byte for byte.
#![forbid(unsafe_code)]

/// For `-V`: the version alone.
pub const SHORT: &str = env!("CARGO_PKG_VERSION");

/// For `--version`: a line for each of version, commit (`unknown` where nobody told), profile, target and compiler.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit   ",
    env!("SEALPOST_BUILD_COMMIT"),
    "\nprofile  ",
    env!("SEALPOST_BUILD_PROFILE"),
    "\ntarget   ",
    env!("SEALPOST_BUILD_TARGET"),
    "\ncompiler ",
    env!("SEALPOST_BUILD_COMPILER"),
);
