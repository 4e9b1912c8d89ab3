//! The format of Sealpost's archive: what lies in its directory, byte for byte. It reads, checks and proves; it touches no
//! network, and it writes only what it is told to.
//!
//! ```text
//!  layout   where things lie            line     one line of a log
//!  storage  the seam to the disk        log_file a file of whole lines that grows
//!  segment  sealed lines, compressed    manifest what is in a segment
//!  tree     the Merkle tree, its tiles  checkpoint signed tree heads
//!                    log_reader  a whole log, over all its files
//!  verify   does all of it hold?      proof    of a line, and of growth
//!  query    finds lines               follow   as they come
//!  gaps     what never came           merge    one stream out of several logs
//!  stats    a log in numbers
//! ```
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod digest;
pub mod envelope_names;
pub mod follow;
pub mod gaps;
pub mod hash;
pub mod layout;
pub mod line;
pub mod log_file;
pub mod log_reader;
pub mod manifest;
pub mod merge;
pub mod proof;
pub mod query;
pub mod segment;
pub mod stats;
pub mod storage;
pub mod tree;
pub mod verify;
