//! A program without std that seals: what links here links into firmware.
//!
//! A panic handler of our own is the proof: if anything below used std, there would be two and rustc would refuse. Standard
//! input has what a device has from its maker and its network: 32 bytes of identity, 32 bytes of chance, then lines: the
//! time, a contact link, the bundle, and one reading a line. Standard output gets an envelope for each, and the last line says how
//! many bytes of memory all that took at most.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sealpost_core::{ContactLink, Identity, Timestamp, UserId};
use sealpost_no_std::Device;

/// More than the test ever gives, in bytes.
const MAX_INPUT: usize = 65_536;

/// The C library's memory, counted.
struct Heap {
    used: AtomicUsize,
    most: AtomicUsize,
}

#[global_allocator]
static HEAP: Heap = Heap {
    used: AtomicUsize::new(0),
    most: AtomicUsize::new(0),
};

// SAFETY: malloc's memory is aligned for every type that is no wider than two pointers; wider ones get none.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > 2 * size_of::<usize>() {
            return core::ptr::null_mut();
        }
        let used = self.used.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        self.most.fetch_max(used, Ordering::Relaxed);
        unsafe { libc::malloc(layout.size()).cast() }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.used.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { libc::free(at.cast()) }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: it does not return, and needs nothing.
    unsafe { libc::abort() }
}

// The library `alloc` that comes for this machine was built for panics that unwind, and names these two; where devices run, it
// is built for panics that abort. Here, too, nothing unwinds, so nothing calls them.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: it does not return, and needs nothing.
    unsafe { libc::abort() }
}

#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

// The C library brings `_start` and memcpy.
#[link(name = "c")]
unsafe extern "C" {}

#[unsafe(no_mangle)]
extern "C" fn main() -> libc::c_int {
    match run() {
        Some(()) => 0,
        None => 1,
    }
}

fn run() -> Option<()> {
    let input = read()?;
    // What was read is not what sealing takes.
    HEAP.most.store(0, Ordering::Relaxed);
    let before = HEAP.used.load(Ordering::Relaxed);
    let (identity, input) = input.split_first_chunk::<32>()?;
    let (chance, input) = input.split_first_chunk::<32>()?;
    let mut lines = core::str::from_utf8(input).ok()?.lines();
    let now = Timestamp::parse(lines.next()?).ok()?;
    let link = ContactLink::parse(lines.next()?).ok()?;
    let bundle = lines.next()?;

    let identity = Identity::from_seed(identity);
    let mut rng = ChaCha20Rng::from_seed(*chance);
    let name = UserId::parse("sensor").ok()?;
    let mut device = Device::new(&identity, &name, &link, bundle.as_bytes(), now).ok()?;
    for reading in lines {
        let envelope = device.seal(&mut rng, now, reading).ok()?;
        write(envelope.as_bytes())?;
        write(b"\n")?;
    }
    let most = HEAP.most.load(Ordering::Relaxed) - before;
    write(most.to_string().as_bytes())
}

fn read() -> Option<Vec<u8>> {
    let mut input = vec![0; MAX_INPUT];
    let mut filled = 0;
    loop {
        let room = input.get_mut(filled..)?;
        // SAFETY: it writes into the room that there is, and not beyond.
        let read = unsafe { libc::read(libc::STDIN_FILENO, room.as_mut_ptr().cast(), room.len()) };
        match usize::try_from(read).ok()? {
            0 => break,
            read => filled += read,
        }
    }
    input.truncate(filled);
    Some(input)
}

fn write(mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        // SAFETY: it reads the bytes that there are, and not beyond.
        let written =
            unsafe { libc::write(libc::STDOUT_FILENO, bytes.as_ptr().cast(), bytes.len()) };
        bytes = bytes.get(usize::try_from(written).ok()?..)?;
    }
    Some(())
}
