//! Where everything is, for any size.

use ratatui::layout::Rect;

use super::state::State;
use super::text::wrap;

/// From this width on, the list of people is beside the conversation.
const WIDE: u16 = 60;
/// The widest that the list becomes.
const PEOPLE: u16 = 22;
/// The highest that the input becomes.
const INPUT: u16 = 8;
/// The highest that what was said last becomes.
const NOTICE: u16 = 4;
/// From this width on, messages have time and name before them.
const GUTTER: u16 = 40;
/// The longest name before a message; a longer one is cut.
const NAME: u16 = 10;

/// The parts of the screen. One without room has no height or no width.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Areas {
    /// The list of people.
    pub people: Rect,
    /// The line over the conversation.
    pub head: Rect,
    /// The messages.
    pub conversation: Rect,
    /// A line for what was said last.
    pub notice: Rect,
    /// What is typed, without its prompt.
    pub input: Rect,
    /// The line with connection and trust, at the bottom.
    pub bar: Rect,
    /// The cells before the text of a message.
    pub gutter: u16,
}

impl Areas {
    /// For a state.
    #[must_use]
    pub fn of(state: &State) -> Areas {
        let (width, height) = state.size;
        let list = state.show_people && width >= WIDE && height > 2;
        // On a narrow terminal it is the list or the conversation.
        let only_list = width < WIDE && (state.open.is_none() || !state.show_people) && height > 2;
        let people = match (list, only_list && !state.people.is_empty()) {
            (true, _) => PEOPLE.min(width / 3),
            (false, true) => width,
            (false, false) => 0,
        };
        let left = match people {
            0 => 0,
            whole if whole == width => 0,
            // A line, and a cell beside it.
            some => some + 2,
        };
        let main = width - left;
        // The bar is always there, then the input, and only then anything else.
        let mut rest = height;
        let mut take = |wanted: u16| {
            let taken = wanted.min(rest);
            rest -= taken;
            taken
        };
        let bar = take(1);
        let rows = match state.is_blocked() && state.input().is_empty() {
            true => 1,
            false => u16::try_from(
                state
                    .input()
                    .layout(usize::from(main.saturating_sub(2)))
                    .lines
                    .len(),
            )
            .unwrap_or(INPUT),
        };
        let input = take(rows.clamp(1, INPUT.min((height / 3).max(1))));
        let head = if height >= 6 { take(1) } else { 0 };
        let line = if height >= 8 { take(1) } else { 0 };
        let notice = match &state.notice {
            Some(said) if height >= 5 => {
                let lines = wrap(&said.text, usize::from(main)).len();
                let most = NOTICE.min((height / 4).max(1));
                take(u16::try_from(lines).unwrap_or(NOTICE).clamp(1, most))
            }
            _ => 0,
        };
        let conversation = if only_list && people == width {
            0
        } else {
            rest
        };
        let mut y = 0;
        let mut part = |height: u16| {
            let rect = Rect::new(left, y, main, height);
            y += height;
            rect
        };
        let (head, conversation_at) = (part(head), part(rest));
        let notice = part(notice);
        // The line over the input belongs to it.
        part(line);
        let input = part(input);
        let input = Rect {
            x: input.x + 2.min(input.width),
            width: input.width.saturating_sub(2),
            ..input
        };
        let gutter = match main >= GUTTER {
            true => {
                let names = [state.open.as_ref(), Some(&state.me.user)];
                let longest = names
                    .into_iter()
                    .flatten()
                    .map(|name| name.as_str().len())
                    .max();
                // `14:05 ✓✓ name  `
                9 + u16::try_from(longest.unwrap_or(0))
                    .unwrap_or(NAME)
                    .min(NAME)
                    + 2
            }
            false => 3,
        };
        let list_height = height.saturating_sub(bar);
        Areas {
            people: match people {
                whole if whole == width && whole > 0 => {
                    Rect::new(0, 0, width, conversation_at.y + conversation_at.height)
                }
                some => Rect::new(0, 0, some, list_height),
            },
            head,
            conversation: Rect {
                height: conversation,
                ..conversation_at
            },
            notice,
            input,
            bar: Rect::new(0, height - bar, width, bar),
            gutter: gutter.min(main.saturating_sub(1)),
        }
    }

    /// The cells for the text of a message.
    #[must_use]
    pub fn text_width(&self) -> u16 {
        // A cell at the right stays free.
        self.conversation
            .width
            .saturating_sub(self.gutter + 1)
            .max(1)
    }
}
