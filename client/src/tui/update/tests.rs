use super::super::editor::MAX_TEXT;
use super::super::sample::{NOON, at, item, line, person, press, state, talking, user};
use super::super::transcript::Row;
use super::*;
use crate::store::{Mark, SendState};

fn texts(state: &State) -> Vec<String> {
    let rows = state.transcript().unwrap().seen(&state.form());
    let texts = rows.into_iter().filter_map(|row| match row {
        Row::Text { text, .. } => Some(text),
        _ => None,
    });
    texts.collect()
}

#[test]
fn what_is_typed_goes_to_who_is_talked_to() {
    let mut state = talking(Trust::Verified);
    assert_eq!(
        line(&mut state, "Hello Bob!"),
        [Effect::Send(user("bob"), "Hello Bob!".into())]
    );
    assert!(state.input().is_empty());
    press(&mut state, "up");
    assert_eq!(state.input().text(), "Hello Bob!");
    press(&mut state, "alt-enter");
    assert_eq!(
        line(&mut state, "and more"),
        [Effect::Send(user("bob"), "Hello Bob!\nand more".into())]
    );
    assert_eq!(
        line(&mut state, "//not a command"),
        [Effect::Send(user("bob"), "/not a command".into())]
    );
    assert!(line(&mut state, "   ").is_empty());
}

#[test]
fn without_a_conversation_nothing_is_sent_and_it_is_said_why() {
    let mut state = state();
    state.update(Msg::People(Vec::new()));
    assert!(line(&mut state, "Hello?").is_empty());
    assert!(state.notice.unwrap().text.contains("To whom?"));
}

#[test]
fn a_draft_stays_with_its_conversation() {
    let mut state = talking(Trust::Verified);
    state.update(Msg::Paste("for bob".into()));
    press(&mut state, "alt-down");
    assert_eq!(state.open, Some(user("carol")));
    assert!(state.input().is_empty());
    press(&mut state, "alt-up");
    assert_eq!(state.input().text(), "for bob");
}

#[test]
fn a_pasted_text_of_many_lines_is_one_message_and_sends_nothing_by_itself() {
    let mut state = talking(Trust::Verified);
    assert!(
        state
            .update(Msg::Paste("one\ntwo\r\nthree\u{1b}[31m\n".into()))
            .is_empty()
    );
    assert_eq!(
        press(&mut state, "enter"),
        [Effect::Send(user("bob"), "one\ntwo\nthree".into())]
    );
    state.update(Msg::Paste("x".repeat(10 * MAX_TEXT)));
    assert!(state.input().text().len() <= MAX_TEXT);
}

#[test]
fn a_changed_identity_blocks_until_somebody_says_yes_in_full() {
    let mut state = talking(Trust::Verified);
    state.update(Msg::Paste("a secret".into()));
    state.update(Msg::People(vec![person("bob", Trust::Changed, 0, 0)]));
    assert!(
        state
            .notice
            .as_ref()
            .is_some_and(|said| said.level == Level::Alarm)
    );
    // Neither typing nor pasting nor a command sends anything.
    for attempt in ["more", "/to bob now"] {
        let effects = line(&mut state, attempt);
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, Effect::Send(..))),
            "{attempt}: {effects:?}"
        );
        press(&mut state, "esc");
    }
    state.update(Msg::Paste("pasted".into()));
    assert!(state.input().is_empty());
    // Enter asks, and nothing but a whole yes is one.
    for no in ["", "y", "ja", "no"] {
        press(&mut state, "enter");
        assert!(matches!(state.dialog, Some(Dialog::Trust { .. })), "{no}");
        assert!(line(&mut state, no).is_empty());
        press(&mut state, "esc");
        assert!(state.is_blocked());
    }
    press(&mut state, "enter");
    let offered = person("bob", Trust::Changed, 0, 0).offered;
    assert_eq!(
        line(&mut state, "yes"),
        [Effect::Decide(user("bob"), offered)]
    );
    assert!(state.is_blocked(), "not before it is written down");
    state.update(Msg::Decided(user("bob"), Ok(())));
    state.update(Msg::People(vec![person("bob", Trust::Known, 0, 0)]));
    assert_eq!(
        state.input().text(),
        "a secret",
        "what was being written is not lost"
    );
    assert_eq!(
        press(&mut state, "enter"),
        [Effect::Send(user("bob"), "a secret".into())]
    );
}

#[test]
fn a_decision_is_about_what_was_shown_and_nothing_that_came_in_its_place() {
    let mut state = talking(Trust::Changed);
    press(&mut state, "enter");
    let mut another = person("bob", Trust::Changed, 0, 0);
    another.offered = Some("SHA256:another".into());
    state.update(Msg::People(vec![another]));
    assert!(state.dialog.is_none(), "the question is another one now");
}

#[test]
fn verifying_is_yes_no_or_what_they_see() {
    let mut state = talking(Trust::Known);
    assert_eq!(press(&mut state, "f4"), [Effect::Compare(user("bob"))]);
    let compare = Msg::Compare {
        with: user("bob"),
        number: "12345 ".repeat(12),
        code: "sealpost:verify?x".into(),
    };
    state.update(compare.clone());
    assert_eq!(
        line(&mut state, "no"),
        [Effect::CheckTheirs(user("bob"), "no".into())]
    );
    let differ = ("they differ".into(), String::new());
    state.update(Msg::Compared(user("bob"), Err(differ)));
    assert!(matches!(
        &state.dialog,
        Some(Dialog::Verify {
            problem: Some(_),
            ..
        })
    ));
    assert_eq!(line(&mut state, "yes"), [Effect::SayVerified(user("bob"))]);
    state.update(Msg::Compared(user("bob"), Ok(())));
    assert!(state.dialog.is_none());
    state.update(compare);
    state.update(Msg::Paste(" 12345 12345 ".into()));
    assert_eq!(
        press(&mut state, "enter"),
        [Effect::CheckTheirs(user("bob"), "12345 12345".into())]
    );
    // An answer that is judged while the next one is typed leaves that alone.
    state.update(Msg::Paste("54321".into()));
    let differ = ("they differ".into(), String::new());
    state.update(Msg::Compared(user("bob"), Err(differ)));
    assert_eq!(
        press(&mut state, "enter"),
        [Effect::CheckTheirs(user("bob"), "54321".into())]
    );
}

#[test]
fn somebody_is_added_by_link_or_by_name() {
    let mut state = state();
    press(&mut state, "f3");
    assert_eq!(line(&mut state, "bob"), [Effect::Open(user("bob"))]);
    assert_eq!(state.open, Some(user("bob")));
    press(&mut state, "f3");
    state.update(Msg::Paste("sealpost:contact?x\n".into()));
    assert_eq!(
        press(&mut state, "enter"),
        [Effect::Add("sealpost:contact?x".into())]
    );
    state.update(Msg::Failed(
        "that is not a contact link".into(),
        "Copy it whole.".into(),
    ));
    assert!(matches!(
        &state.dialog,
        Some(Dialog::Add {
            problem: Some(_),
            ..
        })
    ));
    assert_eq!(
        state.update(Msg::Added(user("carol"), true)),
        [Effect::Open(user("carol"))]
    );
    assert!(state.dialog.is_none());
    press(&mut state, "f3");
    assert!(line(&mut state, "alice").is_empty(), "that is us");
    assert_eq!(state.open, Some(user("carol")));
}

#[test]
fn what_is_before_the_eyes_counts_as_shown_and_nothing_else() {
    let mut state = talking(Trust::Known);
    let newest = vec![item(1, None, "hi")];
    let unread = |state: &mut State, count| {
        state.update(Msg::People(vec![person("bob", Trust::Known, count, 0)]))
    };
    state.update(Msg::Focus(false));
    unread(&mut state, 1);
    assert!(
        state
            .update(Msg::Newest(user("bob"), newest.clone()))
            .is_empty(),
        "nobody looks"
    );
    let mark = newest[0].mark;
    assert_eq!(
        state.update(Msg::Focus(true)),
        [Effect::Shown(user("bob"), mark)]
    );
    unread(&mut state, 0);
    // Further above, it is not before the eyes.
    let many: Vec<_> = (1..100).map(|n| item(n, None, "hi")).collect();
    state.update(Msg::Newest(user("bob"), many.clone()));
    press(&mut state, "pageup");
    assert!(unread(&mut state, 1).is_empty());
    assert_eq!(
        press(&mut state, "ctrl-end"),
        [Effect::Shown(user("bob"), many[98].mark)]
    );
}

#[test]
fn a_message_rings_unless_it_is_before_the_eyes_and_hides_its_words() {
    let mut state = talking(Trust::Known);
    let arrived = |from: &str| Msg::Arrived(user(from), "the\u{1b}]0;plan".into());
    assert!(state.update(arrived("bob")).is_empty());
    assert_eq!(
        state.update(arrived("carol")),
        [Effect::Notify("carol".into(), "a new message".into())]
    );
    state.update(Msg::Focus(false));
    assert_eq!(state.update(arrived("bob")).len(), 1);
    state.preferences.notify_text = true;
    let Some(Effect::Notify(_, words)) = state.update(arrived("bob")).pop() else {
        panic!();
    };
    assert!(words.contains("plan") && !words.contains('\u{1b}'));
}

#[test]
fn receipts_change_the_message_that_they_are_for() {
    let mut state = talking(Trust::Known);
    state.update(Msg::Newest(
        user("bob"),
        vec![item(1, Some(SendState::Queued), "hi")],
    ));
    state.update(Msg::Progress("1".into(), SendState::Delivered, None));
    let state_of = |state: &State| state.transcript().unwrap().items().next().unwrap().state;
    assert_eq!(state_of(&state), Some(SendState::Delivered));
    state.update(Msg::Progress("another".into(), SendState::Failed, None));
    assert_eq!(state_of(&state), Some(SendState::Delivered));
}

#[test]
fn a_search_goes_to_what_it_found() {
    let mut state = talking(Trust::Known);
    press(&mut state, "ctrl-f");
    let effects = line(&mut state, "lighthouse");
    let [Effect::Search(number, Some(with), words)] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!((with, words.as_str()), (&user("bob"), "lighthouse"));
    let mark = Mark {
        at: NOON,
        kind: 1,
        number: 7,
    };
    let hit = |n: i64| super::super::state::Hit {
        with: user("bob"),
        mark: Mark { number: n, ..mark },
        at: at(NOON),
        mine: false,
        text: "at the lighthouse".into(),
    };
    state.update(Msg::Found(*number, vec![hit(7), hit(6)], true));
    state.update(Msg::Found(*number + 1, vec![hit(5)], true));
    press(&mut state, "down");
    let effects = press(&mut state, "enter");
    let there = Mark { number: 6, ..mark };
    assert_eq!(
        effects,
        [Effect::StopSearch, Effect::LoadAround(user("bob"), there)]
    );
    let mut around = vec![item(1, None, "at the lighthouse")];
    around[0].mark = there;
    state.update(Msg::Around(user("bob"), there, around));
    assert_eq!(texts(&state), ["at the lighthouse"]);
    assert!(!state.transcript().unwrap().is_at_end());
    let chosen = state.transcript().unwrap().chosen();
    assert_eq!(chosen.map(|item| item.mark), Some(there), "it stands out");
    press(&mut state, "esc");
    assert!(state.transcript().unwrap().chosen().is_none());
}

#[test]
fn an_alarm_is_not_pushed_away_by_lesser_words_and_stays_until_the_log_was_read() {
    let mut state = talking(Trust::Known);
    state.update(Msg::Said(Level::Alarm, "somebody has your keys".into()));
    state.update(Msg::Said(Level::Note, "bob is there".into()));
    state.update(Msg::Tick(at(NOON + 3_600_000)));
    assert_eq!(
        state.notice.as_ref().unwrap().text,
        "somebody has your keys"
    );
    press(&mut state, "f6");
    assert!(
        matches!(&state.dialog, Some(Dialog::Text(log)) if log.text.contains("ALARM: somebody has your keys"))
    );
    assert!(state.notice.is_none());
}

#[test]
fn a_flood_of_words_and_people_is_bounded() {
    let mut state = talking(Trust::Known);
    for n in 0..10_000 {
        state.update(Msg::Said(Level::Problem, format!("refused {n}")));
    }
    assert!(state.log.len() <= 500);
    for n in 0..200 {
        line(&mut state, &format!("/to person{n}"));
    }
    assert!(state.transcripts.len() <= 10, "{}", state.transcripts.len());
}

#[test]
fn no_key_in_any_state_breaks_it() {
    let keys = [
        "enter",
        "tab",
        "esc",
        "up",
        "down",
        "left",
        "right",
        "home",
        "end",
        "pageup",
        "pagedown",
        "delete",
        "backspace",
        "f1",
        "f2",
        "f3",
        "f4",
        "f5",
        "f6",
        "ctrl-f",
        "ctrl-n",
        "ctrl-p",
        "ctrl-g",
        "ctrl-home",
        "ctrl-end",
        "ctrl-w",
        "ctrl-u",
        "ctrl-k",
        "ctrl-y",
        "ctrl-c",
        "alt-enter",
        "ctrl-left",
        "ctrl-right",
        "ctrl-up",
        "ctrl-down",
        "alt-r",
        "alt-e",
    ];
    for trust in [
        Trust::New,
        Trust::Known,
        Trust::Verified,
        Trust::Changed,
        Trust::Suspended,
        Trust::Asks,
        Trust::Blocked,
    ] {
        let mut state = talking(trust);
        state.update(Msg::Newest(
            user("bob"),
            (0..50).map(|n| item(n, None, "one two three")).collect(),
        ));
        let mut seed = 7_usize;
        for round in 0..3_000 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let pick = seed >> 33;
            if pick.is_multiple_of(5) {
                state.update(Msg::Paste(
                    ["é世", "/to ", "/", "x\ny", "/delete", "/save", "bob"][pick % 7].to_owned(),
                ));
            } else {
                press(&mut state, keys[pick % keys.len()]);
            }
            if round % 100 == 0 {
                state.update(Msg::Resize((pick % 90) as u16, (pick % 31) as u16));
            }
        }
    }
}
