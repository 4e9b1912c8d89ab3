//! Ctrl-C, SIGTERM and SIGHUP. While a command starts and asks for passphrases they end it at once, with the terminal as
//! it was; afterwards they ask it to end.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal as Sent, kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Code;

/// The terminal as it was before a passphrase was asked for.
static BEFORE: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// A process group that is not to outlive us.
static CHARGE: Mutex<Option<Pid>> = Mutex::new(None);

/// While it lives, a signal that ends us at once ends that process group, too.
pub(crate) struct KillAtEnd;

impl KillAtEnd {
    /// One at a time.
    pub(crate) fn new(group: Pid) -> KillAtEnd {
        *charge() = Some(group);
        KillAtEnd
    }
}

impl Drop for KillAtEnd {
    fn drop(&mut self) {
        *charge() = None;
    }
}

fn charge() -> std::sync::MutexGuard<'static, Option<Pid>> {
    CHARGE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What gives the terminal back.
static LAST: Mutex<Option<fn()>> = Mutex::new(None);

/// From now on, a signal that ends us at once does this first.
#[cfg(feature = "tui")]
pub(crate) fn before_the_end(what: fn()) {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
}

fn at_the_end() {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(last) = last {
        last();
    }
}

/// Catches the signals, but not those that were ignored when the process started: nohup and a shell's `&` mean that.
/// Call it in the runtime, and before anything else catches signals.
pub fn watch(stop: CancellationToken) -> Arc<AtomicBool> {
    let started = Arc::new(AtomicBool::new(false));
    let ignored = ignored_at_start();
    for number in [SIGINT, SIGTERM, SIGHUP] {
        if ignored >> (number - 1) & 1 == 0
            && let Ok(signal) = signal(SignalKind::from_raw(number))
        {
            tokio::spawn(obey(number, signal, started.clone(), stop.clone()));
        }
    }
    started
}

async fn obey(number: i32, mut signal: Signal, started: Arc<AtomicBool>, stop: CancellationToken) {
    while signal.recv().await.is_some() {
        if !started.load(Ordering::SeqCst) {
            end(number);
        }
        // The second one ends the process.
        if stop.is_cancelled() {
            if let Some(group) = charge().take() {
                let _ = kill_process_group(group, Sent::KILL);
            }
            at_the_end();
            std::process::exit(Code::Failed as i32);
        }
        stop.cancel();
    }
}

/// One bit for each ignored signal, the first for signal 1. Where there is no /proc, none.
fn ignored_at_start() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).unwrap_or(0)
}

/// Ends the process as the signal would have, so that a shell sees which it was; the terminal first.
fn end(number: i32) {
    restore_terminal();
    at_the_end();
    let _ = signal_hook::low_level::emulate_default_handler(number);
    std::process::exit(128 + number);
}

/// As if Ctrl-C had been typed where it is a signal.
pub(crate) fn interrupted() {
    end(SIGINT);
}

/// While it lives, a signal gives the terminal back its settings of now.
pub(crate) struct KeepTerminal;

impl KeepTerminal {
    pub(crate) fn new() -> KeepTerminal {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
        if let Ok(terminal) = terminal
            && let Ok(settings) = tcgetattr(&terminal)
        {
            *before() = Some((terminal, settings));
        }
        KeepTerminal
    }
}

impl Drop for KeepTerminal {
    fn drop(&mut self) {
        *before() = None;
    }
}

fn before() -> std::sync::MutexGuard<'static, Option<(File, Termios)>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the thread that asks may take from its first to its last change of the settings, which come one after the
/// other: a signal in between would be undone by the last.
const SETTLING: Duration = Duration::from_millis(30);

fn restore_terminal() {
    if let Some((mut terminal, settings)) = before().take() {
        let _ = tcsetattr(&terminal, OptionalActions::Now, &settings);
        std::thread::sleep(SETTLING);
        let _ = tcsetattr(&terminal, OptionalActions::Now, &settings);
        // The prompt has no line end.
        let _ = terminal.write_all(b"\n");
    }
}
