//! Fuzzes connections and sessions, whole: see checks/conversation.rs.
#![no_main]

#[path = "../checks/conversation.rs"]
mod conversation;

use std::sync::OnceLock;

static STAGE: OnceLock<conversation::Stage> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| STAGE.get_or_init(conversation::Stage::new).play(data));
