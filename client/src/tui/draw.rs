//! Draws the state. It changes nothing, and every size is drawn as far as it goes.

mod dialogs;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;

pub(super) use self::dialogs::{Page as DialogPage, frame as dialog_frame};
use super::commands::{Completion, completions};
use super::keys::Action;
use super::state::{Connection, Level, State, Trust};
use super::text::{at_most, cut, fit, width, wrap};
use super::transcript::{Row, Transcript, Words, time};

/// How many completions are shown over the input.
const MAX_COMPLETIONS: usize = 8;
/// How much of the chosen message is cut to the room over the input, in bytes.
const MAX_CHOSEN: usize = 400;

/// Draws everything.
pub fn draw(state: &State, frame: &mut Frame<'_>) {
    let buffer = frame.buffer_mut();
    let areas = state.areas();
    people(state, areas.people, buffer);
    if areas.people.width > 0 && areas.people.width < state.size.0 {
        let line = state.theme.sign("│", "|");
        for row in 0..areas.people.height {
            put(buffer, areas.people.width, row, line, state.theme.line);
        }
    }
    head(state, areas.head, buffer);
    conversation(state, areas.conversation, areas.gutter, buffer);
    notice(state, areas.notice, buffer);
    let over = areas.notice.y + areas.notice.height;
    if over < areas.input.y {
        let line = state.theme.sign("─", "-");
        let left = areas.notice.x.saturating_sub(1);
        for column in left..areas.notice.x + areas.notice.width {
            put(buffer, column, over, line, state.theme.line);
        }
        below(state, areas.conversation, over, buffer);
        chosen(state, areas.conversation, over, buffer);
    }
    let cursor = input(state, areas.input, buffer);
    completing(state, areas.conversation, areas.input, buffer);
    bar(state, areas.bar, buffer);
    let cursor = match &state.dialog {
        Some(dialog) => dialogs::draw(state, dialog, buffer),
        None => cursor,
    };
    if !state.theme.unicode {
        for cell in &mut buffer.content {
            if cell.symbol() == "…" {
                cell.set_symbol("~");
            }
        }
    }
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

/// Writes as much of a line as there is room for; whatever there was before is overwritten.
fn put(buffer: &mut Buffer, x: u16, y: u16, text: &str, style: Style) {
    if !buffer.area.contains(Position::new(x, y)) {
        return;
    }
    let room = usize::from(buffer.area.right() - x);
    buffer.set_stringn(x, y, text, room, style);
}

/// A line of an area, cut to its width. Gives the column behind it.
fn line(buffer: &mut Buffer, area: Rect, row: u16, offset: u16, text: &str, style: Style) -> u16 {
    let room = area.width.saturating_sub(offset);
    if row >= area.height || room == 0 {
        return offset;
    }
    let text = cut(text, usize::from(room));
    put(buffer, area.x + offset, area.y + row, &text, style);
    offset + u16::try_from(width(&text)).unwrap_or(room)
}

/// Which person is at the top of the list, when it has so many rows.
pub(super) fn first_person(state: &State, rows: usize) -> usize {
    let at = state
        .people
        .iter()
        .position(|person| state.open.as_ref() == Some(&person.user));
    at.unwrap_or(0).saturating_sub(rows.saturating_sub(1))
}

fn people(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    if area.width == 0 {
        return;
    }
    let first = first_person(state, usize::from(area.height));
    for (row, person) in (0..area.height).zip(state.people.iter().skip(first)) {
        let (mark, style) = theme.trust(person.trust);
        let chosen = state.open.as_ref() == Some(&person.user);
        let base = match (chosen, person.unread > 0) {
            (true, _) => theme.chosen,
            (false, true) => theme.attention,
            (false, false) => theme.text,
        };
        let unread = match person.unread {
            0 => String::new(),
            count @ 1..=999 => format!(" {count}"),
            _ => " 999+".to_owned(),
        };
        let room = usize::from(area.width).saturating_sub(2 + width(&unread));
        let name = fit(person.user.as_str(), room);
        line(buffer, area, row, 0, mark, style);
        line(buffer, area, row, 1, &format!(" {name}{unread}"), base);
    }
    if state.people.is_empty() && state.people_known {
        let words = "Nobody yet.";
        line(buffer, area, 0, 0, words, theme.dim);
    }
}

fn head(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let Some(person) = state.partner() else {
        line(
            buffer,
            area,
            0,
            0,
            &format!("{} in {}", state.me.user, state.me.realm),
            theme.dim,
        );
        return;
    };
    let (mark, style) = theme.trust(person.trust);
    let mut at = line(
        buffer,
        area,
        0,
        0,
        &format!("{} ", person.user),
        theme.theirs,
    );
    at = line(
        buffer,
        area,
        0,
        at,
        &format!("{mark} {}", person.trust.words()),
        style,
    );
    if let Some(fingerprint) = &person.fingerprint {
        line(buffer, area, 0, at + 2, fingerprint, theme.dim);
    }
}

/// What stands where a conversation would, when there is none yet.
fn empty(state: &State, area: Rect, buffer: &mut Buffer) {
    let keys = &state.preferences.keys;
    let words = match (&state.open, state.transcript()) {
        (Some(_), Some(transcript)) if transcript.is_loading() => String::new(),
        (Some(user), _) => match state.partner().map(|person| person.trust) {
            Some(Trust::New) => format!(
                "Write to {user} below. Whose keys the broker gives out for {user} first are taken for theirs; to be sure, add \
                 their link instead ({}), or compare with them later ({}).",
                keys.first(Action::Add),
                keys.first(Action::Verify)
            ),
            Some(Trust::Asks) => {
                let asked = state.partner().and_then(|person| person.asks.clone());
                format!(
                    "{user} is new and has written to you:\n\n    {}\n\nEnter: let them in, or not. They learn nothing so far.",
                    asked.unwrap_or_default()
                )
            }
            Some(Trust::Blocked) => {
                format!("What {user} sends is dropped. /unblock lets it in again.")
            }
            _ => format!("Nothing between you and {user} yet. Write below."),
        },
        (None, _) if !state.people_known => String::new(),
        (None, _) if state.people.is_empty() => format!(
            "Welcome, {}.\n\n\
             To talk to somebody, you need their link or their name: {} adds them.\n\
             To be found, give them your link: {} shows it.\n\n\
             {} is the help. {} ends; what waits to be sent is kept.",
            state.me.user,
            keys.first(Action::Add),
            keys.first(Action::Invite),
            keys.first(Action::Help),
            keys.first(Action::Quit),
        ),
        (None, _) => format!(
            "Enter opens the first conversation.\n\n{} and {} walk through them, {} goes to the next with something new, /to NAME \
             to one by name. {} adds somebody. {} is the help.",
            keys.first(Action::NextPerson),
            keys.first(Action::PreviousPerson),
            keys.first(Action::NextUnread),
            keys.first(Action::Add),
            keys.first(Action::Help),
        ),
    };
    let room = usize::from(area.width.saturating_sub(4)).max(1);
    for (row, text) in (1..).zip(wrap(&words, room)) {
        line(buffer, area, row, 2, &text, state.theme.text);
    }
}

fn conversation(state: &State, area: Rect, gutter: u16, buffer: &mut Buffer) {
    if area.height == 0 || area.width == 0 {
        return;
    }
    let theme = &state.theme;
    let rows = state
        .transcript()
        .map(|transcript| transcript.seen(&state.form()))
        .unwrap_or_default();
    if rows.is_empty() {
        empty(state, area, buffer);
        return;
    }
    let partner = state
        .open
        .as_ref()
        .map(|user| user.as_str())
        .unwrap_or_default();
    // What is short lies at the bottom, beside what is typed.
    let top = area
        .height
        .saturating_sub(u16::try_from(rows.len()).unwrap_or(u16::MAX));
    for (row, what) in (top..).zip(rows) {
        match what {
            Row::Day(day) => rule(state, area, row, &day, theme.dim, buffer),
            Row::New => rule(state, area, row, "new", theme.attention, buffer),
            Row::Text {
                head,
                mine,
                text,
                words,
                chosen,
            } => {
                if let Some((time, sent)) = head {
                    let (name, style) = match mine {
                        true => (state.me.user.as_str(), theme.mine),
                        false => (partner, theme.theirs),
                    };
                    let (mark, mark_style) =
                        sent.map_or(("  ", theme.dim), |sent| theme.state(sent));
                    if gutter > 3 {
                        line(buffer, area, row, 0, &time, theme.dim);
                        line(buffer, area, row, 6, mark, mark_style);
                        let room = usize::from(gutter.saturating_sub(11));
                        line(buffer, area, row, 9, &cut(name, room), style);
                    } else if mine {
                        line(buffer, area, row, 0, mark, mark_style);
                    } else {
                        line(buffer, area, row, 0, theme.sign("›", ">"), style);
                    }
                }
                let style = match words {
                    Words::Text => theme.text,
                    Words::Quote | Words::Remark => theme.dim,
                    Words::Action => theme.attention,
                    Words::Problem => theme.bad,
                };
                if chosen {
                    let mark = theme.sign("▌", "|");
                    line(
                        buffer,
                        area,
                        row,
                        gutter.saturating_sub(1),
                        mark,
                        theme.attention,
                    );
                }
                line(buffer, area, row, gutter, &text, style);
            }
        }
    }
}

/// Words in the middle of a line.
fn rule(state: &State, area: Rect, row: u16, words: &str, style: Style, buffer: &mut Buffer) {
    let dash = state.theme.sign("─", "-");
    let room = usize::from(area.width);
    let words = cut(&format!(" {words} "), room);
    let before = room.saturating_sub(width(&words)) / 2;
    let after = room.saturating_sub(width(&words) + before);
    let text = format!("{}{words}{}", dash.repeat(before), dash.repeat(after));
    line(buffer, area, row, 0, &text, style);
}

/// That there is more below.
fn below(state: &State, conversation: Rect, row: u16, buffer: &mut Buffer) {
    let Some(count) = state
        .transcript()
        .filter(|t| !t.is_at_end())
        .map(|t| t.below())
    else {
        return;
    };
    let new = state.partner().map_or(0, |person| person.unread);
    let more = match new {
        0 => format!(" {count} more below "),
        new => format!(" {new} new below "),
    };
    let end = state.preferences.keys.first(Action::Bottom);
    let text = format!("{more}({end}) ");
    let x = conversation
        .right()
        .saturating_sub(u16::try_from(width(&text)).unwrap_or(0) + 1);
    put(
        buffer,
        x.max(conversation.x),
        row,
        &text,
        state.theme.attention,
    );
}

/// Which message is chosen, at the left: it may be out of sight.
fn chosen(state: &State, conversation: Rect, row: u16, buffer: &mut Buffer) {
    let Some(item) = state.transcript().and_then(Transcript::chosen) else {
        return;
    };
    let name = match item.state {
        Some(_) => state.me.user.as_str(),
        None => state.open.as_ref().map_or("", |user| user.as_str()),
    };
    let words = item.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let begun = at_most(&words, MAX_CHOSEN);
    let text = format!("{} {name}: {begun}", time(item.at, &state.zone));
    let room = usize::from(conversation.width / 2);
    let text = format!(" {} (Esc) ", cut(&text, room));
    put(buffer, conversation.x, row, &text, state.theme.attention);
}

fn notice(state: &State, area: Rect, buffer: &mut Buffer) {
    let Some(said) = &state.notice else {
        return;
    };
    let theme = &state.theme;
    let style = match said.level {
        Level::Note => theme.text,
        Level::Problem => theme.bad,
        Level::Alarm => theme.alarm,
    };
    let room = usize::from(area.width);
    let lines = wrap(&said.text, room);
    let whole = lines.len() <= usize::from(area.height);
    for (row, text) in (0..area.height).zip(&lines) {
        if row + 1 < area.height || whole {
            line(buffer, area, row, 0, text, style);
            continue;
        }
        // What has no room is in the log.
        let log = state.preferences.keys.first(Action::Log);
        let rest = lines.get(usize::from(row)..).unwrap_or_default().join(" ");
        let rest = cut(&rest, room.saturating_sub(width(&log) + 4));
        line(buffer, area, row, 0, &format!("{rest} ({log})"), style);
    }
}

fn input(state: &State, area: Rect, buffer: &mut Buffer) -> Option<Position> {
    if area.height == 0 {
        return None;
    }
    let theme = &state.theme;
    if state.is_blocked() && state.input().is_empty() {
        let person = state.partner()?;
        let words = match person.trust {
            Trust::Suspended => format!(
                "NOTHING OF {} IS OPENED ANY MORE. Enter: decide",
                person.user
            ),
            Trust::Asks => format!("{} ASKS TO BE LET IN. Enter: decide", person.user),
            Trust::Blocked => format!("You have blocked {}. /unblock", person.user),
            _ => format!("THE IDENTITY OF {} HAS CHANGED. Enter: decide", person.user),
        };
        let whole = Rect {
            x: area.x.saturating_sub(2),
            width: area.width + 2,
            ..area
        };
        let filled = fit(&format!("! {words}"), usize::from(whole.width));
        line(buffer, whole, 0, 0, &filled, theme.alarm);
        return Some(Position::new(area.x, area.y));
    }
    if area.x >= 2 {
        put(buffer, area.x - 2, area.y, "> ", theme.dim);
    }
    let layout = state.input().layout(usize::from(area.width));
    let height = usize::from(area.height);
    let first = (layout.row + 1).saturating_sub(height);
    for (row, text) in (0..area.height).zip(layout.lines.iter().skip(first)) {
        line(buffer, area, row, 0, text, theme.text);
    }
    let row = u16::try_from(layout.row - first).unwrap_or(0);
    let column = u16::try_from(layout.column)
        .unwrap_or(0)
        .min(area.width.saturating_sub(1));
    Some(Position::new(area.x + column, area.y + row))
}

/// What a command could become, over the input.
fn completing(state: &State, conversation: Rect, input: Rect, buffer: &mut Buffer) {
    let typed = state.input().text();
    let people = state.people.iter().map(|person| &person.user);
    let mut all = completions(typed, people);
    if let Some((_, paths)) = state.paths.as_ref().filter(|(begun, _)| begun == typed) {
        // The folder that they are in is what was typed.
        let folder = typed.rfind(['/', ' ']).map_or(0, |at| at + 1);
        all.extend(paths.iter().map(|path| Completion {
            text: path.get(folder..).unwrap_or(path).to_owned(),
            about: String::new(),
        }));
    }
    let exact = matches!(all.as_slice(), [only] if only.text.trim_end() == typed.trim_end());
    if all.is_empty() || exact && all.iter().all(|c| c.about.is_empty()) || conversation.height < 3
    {
        return;
    }
    let room = usize::from(conversation.height)
        .saturating_sub(1)
        .min(MAX_COMPLETIONS);
    let shown = all.len().min(room);
    let top = input
        .y
        .saturating_sub(1 + u16::try_from(shown).unwrap_or(0));
    let area = Rect {
        y: top,
        height: u16::try_from(shown).unwrap_or(0),
        ..conversation
    };
    for (row, completion) in (0..area.height).zip(all.iter()) {
        let more = usize::from(row) + 1 == shown && all.len() > shown;
        let about = match more {
            true => format!("({} more) {}", all.len() - shown, completion.about),
            false => completion.about.clone(),
        };
        let text = format!(" {:<11} {about}", completion.text);
        let style = state.theme.bar;
        line(
            buffer,
            area,
            row,
            0,
            &fit(&text, usize::from(area.width)),
            style,
        );
    }
}

fn bar(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    line(
        buffer,
        area,
        0,
        0,
        &" ".repeat(usize::from(area.width)),
        theme.bar,
    );
    let (sign, words, style) = match &state.connection {
        Connection::Up => (theme.sign("●", "*"), "connected".to_owned(), theme.bar),
        Connection::Connecting => (theme.sign("○", "-"), "connecting".to_owned(), theme.bar),
        Connection::Away { reason, .. } => (
            theme.sign("○", "!"),
            format!("OFFLINE: {reason}"),
            theme.alarm,
        ),
        Connection::Over { reason, .. } => (
            theme.sign("○", "!"),
            format!("STOPPED: {reason}"),
            theme.alarm,
        ),
    };
    // Trust comes first: it must not be cut away by a long reason.
    let trust = state.partner().map(|person| {
        let (mark, style) = theme.trust(person.trust);
        let style = if person.trust.blocks() {
            style
        } else {
            theme.bar
        };
        (
            format!(" {mark} {}: {} ", person.user, person.trust.words()),
            style,
        )
    });
    let unread = match state.unread() {
        0 => String::new(),
        1 => " 1 new ".to_owned(),
        count => format!(" {count} new "),
    };
    let help = format!(" {} help ", state.preferences.keys.first(Action::Help));
    let me = format!(" {} ", state.me.user);
    let room = usize::from(area.width);
    // What is cut away first is our own name, then the help.
    let fixed = trust.as_ref().map_or(0, |(text, _)| width(text)) + width(&unread);
    let extra = width(&help) + width(&me);
    let connection = format!(" {sign} {words} ");
    let shown = match (
        fixed + extra + width(&connection) <= room,
        fixed + 4 <= room,
    ) {
        (true, _) => connection,
        (false, true) => fit(&connection, (room - fixed).min(width(&connection))),
        (false, false) => format!(" {sign} "),
    };
    let mut at = line(buffer, area, 0, 0, &shown, style);
    if let Some((text, style)) = &trust {
        at = line(buffer, area, 0, at, text, *style);
    }
    at = line(
        buffer,
        area,
        0,
        at,
        &unread,
        theme.bar.patch(theme.attention),
    );
    let left = room.saturating_sub(usize::from(at));
    if left >= extra {
        let from = u16::try_from(room - extra).unwrap_or(0);
        let from = line(buffer, area, 0, from, &me, theme.bar);
        line(buffer, area, 0, from, &help, theme.bar);
    } else if left >= width(&help) {
        line(
            buffer,
            area,
            0,
            u16::try_from(room - width(&help)).unwrap_or(0),
            &help,
            theme.bar,
        );
    }
}

#[cfg(test)]
mod tests;
