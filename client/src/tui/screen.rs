//! The terminal: taken over, and given back as it was, however the program ends.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, DisableMouseCapture, EnableBracketedPaste,
    EnableFocusChange, EnableMouseCapture,
};
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal};

use super::settings::Desktop;
use super::text::at_most;
use crate::terminal::clean_line;

/// Room for a frame, so that it goes out in one piece: over a slow line half a frame would be seen.
const FRAME: usize = 256 * 1024;
/// The longest text that goes to the clipboard, in bytes: terminals take about so much.
const MAX_COPIED: usize = 65_536;

/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);
static MOUSE: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal, while it is ours.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal over. It is given back when this is dropped, at a panic, and at a signal that ends the process at once.
    ///
    /// # Errors
    /// When it is none.
    pub fn take(mouse: bool) -> io::Result<Screen> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                give_back();
                before(info);
            }));
            crate::signals::before_the_end(give_back);
        });
        MOUSE.store(mouse, Ordering::SeqCst);
        enter()?;
        let out = BufWriter::with_capacity(FRAME, io::stdout());
        let terminal = Terminal::new(CrosstermBackend::new(out))?;
        let mut screen = Screen { terminal };
        screen.redraw()?;
        Ok(screen)
    }

    /// Columns and rows.
    ///
    /// # Errors
    /// When the terminal does not say.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Writes what is different from the frame before, and lets terminals that know how show it at once.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, how: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        self.terminal.draw(how)?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)
    }

    /// The next frame is written whole.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn redraw(&mut self) -> io::Result<()> {
        // Not `clear`, which asks the terminal where its cursor is: the answer would go to whoever reads the keys.
        let size = self.terminal.size()?;
        self.terminal
            .resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Gives the terminal back for a while, and stops until it is ours again.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back();
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
        enter()?;
        self.redraw()
    }

    /// Rings, and tells the desktop through the terminal.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn notify(
        &mut self,
        bell: bool,
        desktop: Desktop,
        title: &str,
        words: &str,
    ) -> io::Result<()> {
        let plain = |text: &str| clean_line(text).replace(';', ",");
        let (title, words) = (plain(title), plain(words));
        let mut out = String::new();
        match desktop {
            Desktop::None => {}
            Desktop::Osc9 => drop(write!(out, "\x1b]9;{title}: {words}\x07")),
            Desktop::Osc777 => drop(write!(out, "\x1b]777;notify;{title};{words}\x07")),
        }
        if bell {
            out.push('\x07');
        }
        self.write(&out)
    }

    /// Puts a text on the clipboard, where the terminal lets programs (OSC 52).
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        let text = at_most(text, MAX_COPIED);
        self.write(&format!("\x1b]52;c;{}\x07", STANDARD.encode(text)))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let out = self.terminal.backend_mut();
        out.write_all(text.as_bytes())?;
        Write::flush(out)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let mut out = io::stdout();
    execute!(
        out,
        EnterAlternateScreen,
        EnableBracketedPaste,
        EnableFocusChange
    )?;
    if MOUSE.load(Ordering::SeqCst) {
        execute!(out, EnableMouseCapture)?;
    }
    Ok(())
}

/// Once, whoever calls it.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    if MOUSE.load(Ordering::SeqCst) {
        let _ = execute!(out, DisableMouseCapture);
    }
    let _ = execute!(
        out,
        DisableFocusChange,
        DisableBracketedPaste,
        EndSynchronizedUpdate,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
}
