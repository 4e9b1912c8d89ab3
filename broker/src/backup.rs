//! Backups: one file with all that a broker keeps, taken while it runs, and the way back.
//!
//! A backup has the journal's tables as they were at one boundary between two groups, so what belongs together is there
//! together, and every user's file as it was shortly after. It has no audit log, no settings and no certificates.
//!
//! ```text
//! file    = "sealpost-backup\n" version:u8(1) record* end digest
//! record  = kind:u8 name:field value:field
//! field   = length:u32 (big-endian) byte*
//! end     = a record of kind 0, whose value is the number of records before it, as u64 (big-endian)
//! digest  = SHA-256 of all bytes before it
//! ```
//!
//! | kind | name | value |
//! |---|---|---|
//! | 1 | `realm`, `made` (milliseconds since the epoch), `program` (version) | text |
//! | 2 | a user's name | their file, as the registry writes it |
//! | 3 | a table's number, then a row's key | the row's value |

mod reader;
pub mod restoring;
pub mod taking;
mod writer;

use crate::journal::store::Table;

const MAGIC: &[u8] = b"sealpost-backup\n";
const VERSION: u8 = 1;

/// Bytes of a digest (SHA-256).
const DIGEST: usize = 32;

/// Bytes of the longest name: a table's number, a mailbox's, and the longest filter or topic (65,535).
const MAX_NAME: usize = 128 * 1024;

/// Bytes of the longest value: a message is at most half of what the router takes (4 MiB), and has properties besides.
const MAX_VALUE: usize = 8 * 1024 * 1024;

const END: u8 = 0;
const ABOUT: u8 = 1;
const USER: u8 = 2;
const ROW: u8 = 3;

/// The number that stands for a table. Numbers are for ever.
fn number(table: Table) -> u8 {
    match table {
        Table::Format => 0,
        Table::Sessions => 1,
        Table::Subscriptions => 2,
        Table::Received => 3,
        Table::Queue => 4,
        Table::Messages => 5,
        Table::Retained => 6,
        Table::Answered => 7,
    }
}

fn table(number_of: u8) -> Option<Table> {
    Table::ALL
        .into_iter()
        .find(|table| number(*table) == number_of)
}
