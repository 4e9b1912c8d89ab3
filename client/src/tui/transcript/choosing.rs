//! The message that a command is about, when that is another than the last.

use super::{Form, Item, Lack, Transcript, View};

impl Transcript {
    /// The chosen message.
    #[must_use]
    pub fn chosen(&self) -> Option<&Item> {
        let mark = self.chosen?;
        self.items.iter().find(|item| item.mark == mark)
    }

    /// None is chosen any more. Says whether one was.
    pub fn choose_none(&mut self) -> bool {
        self.chosen.take().is_some()
    }

    /// The message above the chosen one, or the lowest that is seen; what is to be loaded for that.
    pub fn choose_above(&mut self, form: &Form) -> Option<Lack> {
        let (lowest, _) = self.lowest(form);
        let at = match self.chosen_at() {
            Some(at) => at.saturating_sub(1),
            None => lowest,
        };
        self.chosen = Some(self.items.get(at)?.mark);
        self.show(at, form);
        self.lack_before(at)
    }

    /// The message below the chosen one; below the last, none. What is to be loaded for that.
    pub fn choose_below(&mut self, form: &Form) -> Option<Lack> {
        let at = self.chosen_at()? + 1;
        let Some(item) = self.items.get(at) else {
            if self.at_end {
                self.chosen = None;
                self.view = View::End;
            }
            return self.lack_after(at);
        };
        self.chosen = Some(item.mark);
        self.show(at, form);
        self.lack_after(at)
    }

    fn chosen_at(&self) -> Option<usize> {
        let mark = self.chosen?;
        self.items.iter().position(|item| item.mark == mark)
    }

    /// Brings all of a message into sight, and moves nothing when it is.
    fn show(&mut self, at: usize, form: &Form) {
        let (lowest, below) = self.lowest(form);
        if at > lowest || at == lowest && below > 0 {
            match at + 1 == self.items.len() && self.at_end {
                true => self.view = View::End,
                false => self.set_view(at, 0),
            }
            return;
        }
        // From this message to the lowest row that is seen.
        let rows: usize = (at..=lowest).map(|at| self.rows(at, form).len()).sum();
        if rows - below.min(rows) <= form.height {
            return;
        }
        let mut height = 0;
        for lower in at..=lowest {
            let rows = self.rows(lower, form).len();
            if height + rows >= form.height {
                self.set_view(lower, height + rows - form.height);
                return;
            }
            height += rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{form, items, texts};
    use super::*;
    use crate::tui::transcript::PAGE;

    fn chosen(transcript: &Transcript) -> Option<i64> {
        transcript.chosen().map(|item| item.mark.number)
    }

    #[test]
    fn choosing_walks_through_all_messages_and_what_is_chosen_is_in_sight() {
        let mut transcript = Transcript::default();
        let all = i64::from(PAGE);
        transcript.newest(items(0..all), 0);
        let form = form(7);
        for number in (all - 40..all).rev() {
            transcript.choose_above(&form);
            assert_eq!(chosen(&transcript), Some(number));
            let seen = texts(&transcript, 7);
            assert!(
                seen.contains(&format!("message {number}")),
                "{number}: {seen:?}"
            );
        }
        for number in all - 39..all {
            transcript.choose_below(&form);
            assert_eq!(chosen(&transcript), Some(number));
            let seen = texts(&transcript, 7);
            assert!(
                seen.contains(&format!("message {number}")),
                "{number}: {seen:?}"
            );
        }
        transcript.choose_below(&form);
        assert_eq!((chosen(&transcript), transcript.is_at_end()), (None, true));
    }

    #[test]
    fn it_begins_where_somebody_looks_and_asks_for_what_is_older() {
        let mut transcript = Transcript::default();
        let all = i64::from(PAGE);
        transcript.newest(items(all..2 * all), 0);
        transcript.back(50, &form(7));
        transcript.choose_above(&form(7));
        assert_eq!(chosen(&transcript), Some(2 * all - 51));
        let mut lack = None;
        while lack.is_none() {
            lack = transcript.choose_above(&form(7));
        }
        assert!(matches!(lack, Some(Lack::Before(mark)) if mark.number == all));
        while chosen(&transcript) != Some(all) {
            assert_eq!(transcript.choose_above(&form(7)), None, "once");
        }
        transcript.choose_above(&form(7));
        assert_eq!(chosen(&transcript), Some(all), "the first stays chosen");
    }

    #[test]
    fn a_chosen_message_stays_so_while_others_come_and_is_none_when_it_is_gone() {
        let mut transcript = Transcript::default();
        transcript.newest(items(0..10), 0);
        transcript.choose_above(&form(7));
        transcript.newest(items(0..12), 0);
        assert_eq!(chosen(&transcript), Some(9));
        transcript.newest(items(0..9), 0);
        assert_eq!(chosen(&transcript), None);
        assert!(Transcript::default().choose_above(&form(7)).is_none());
    }
}
