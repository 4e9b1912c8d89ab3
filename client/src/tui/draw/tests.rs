use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::sample::{
    attachment, item, line as type_line, person, press, state, talking, user,
};
use super::super::state::{Hit, Msg};
use super::super::theme::{Ability, ThemeName};
use super::*;
use crate::store::{FileCause, FileState, Mark, SendState};

fn drawn(state: &State) -> Buffer {
    let (columns, rows) = state.size;
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(state, frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// The characters, without the blanks at the ends of lines.
fn screen(state: &State) -> String {
    let buffer = drawn(state);
    let rows = (0..buffer.area.height).map(|y| {
        let mut row = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            row.push_str(symbol);
            x += u16::try_from(width(symbol).max(1)).unwrap();
        }
        row.trim_end().to_owned()
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn sized(mut state: State, columns: u16, rows: u16) -> State {
    state.update(Msg::Resize(columns, rows));
    state
}

fn conversation(trust: Trust) -> State {
    let mut state = talking(trust);
    let mut failed = item(150, Some(SendState::Failed), "Did you get the file?");
    failed.problem = Some((
        "the mailbox of bob is full".into(),
        "Try again later: /retry".into(),
    ));
    state.update(Msg::Newest(
        user("bob"),
        vec![
            item(0, None, "Are you there?"),
            item(1, Some(SendState::Read), "Yes. The train leaves at nine, and I have put the tickets into the drawer in the kitchen."),
            item(2, None, "Two lines:\n\u{2022} one\n\u{2022} two"),
            item(120, Some(SendState::Delivered), "東京 👨\u{200d}👩\u{200d}👧 e\u{301}"),
            item(121, Some(SendState::Sent), "שלום عليكم"),
            failed,
            item(151, Some(SendState::Queued), "And this waits."),
        ],
    ));
    state
}

#[test]
fn a_conversation() {
    insta::assert_snapshot!(screen(&conversation(Trust::Verified)));
}

#[test]
fn a_conversation_in_ascii() {
    let mut state = conversation(Trust::Verified);
    state.theme = super::super::theme::Theme::of(
        ThemeName::Mono,
        Ability {
            colour: false,
            unicode: false,
        },
    );
    let screen = screen(&state);
    let frame: String = screen.chars().filter(|c| !c.is_ascii()).collect();
    assert!(
        frame
            .chars()
            .all(|c| "•東京👨\u{200d}👩👧\u{301}שלוםعليكم".contains(c)),
        "{frame}"
    );
    insta::assert_snapshot!(screen);
}

#[test]
fn a_narrow_one() {
    insta::assert_snapshot!(screen(&sized(conversation(Trust::Known), 32, 14)));
}

#[test]
fn a_tiny_one() {
    insta::assert_snapshot!(screen(&sized(conversation(Trust::Known), 16, 5)));
}

#[test]
fn a_wide_one() {
    insta::assert_snapshot!(screen(&sized(conversation(Trust::Known), 140, 16)));
}

#[test]
fn a_changed_identity_stands_where_one_would_write() {
    let state = conversation(Trust::Changed);
    insta::assert_snapshot!(screen(&state));
    for (columns, rows) in [(80, 24), (30, 6), (20, 3), (12, 2)] {
        let screen = screen(&sized(state.clone(), columns, rows));
        assert!(screen.contains('!'), "{columns}x{rows}:\n{screen}");
    }
}

#[test]
fn the_decision_about_it() {
    let mut state = conversation(Trust::Changed);
    press(&mut state, "enter");
    insta::assert_snapshot!(screen(&state));
}

#[test]
fn verifying() {
    let mut state = conversation(Trust::Known);
    state.update(Msg::Compare {
        with: user("bob"),
        number: "12345 67890 12345 67890 12345 67890 12345 67890 12345 67890 12345 67890".into(),
        code: "sealpost:verify?realm=local&user=alice".into(),
    });
    insta::assert_snapshot!("verifying", screen(&state));
    press(&mut state, "tab");
    insta::assert_snapshot!("verifying_code", screen(&sized(state, 80, 24)));
}

#[test]
fn files_and_how_far_they_are() {
    let mut state = talking(Trust::Verified);
    let file = |at: i64, number, ours, state, done, cause| {
        let mut file = attachment(number, ours, state);
        (file.done, file.cause) = (done, cause);
        file.place = (state == FileState::Saved).then(|| "/home/alice/plans (1).pdf".to_owned());
        let sent = ours.then_some(SendState::Delivered);
        let mut item = item(at, sent, &format!("[file {}]", file.title()));
        item.file = Some(file);
        item
    };
    state.update(Msg::Newest(
        user("bob"),
        vec![
            file(0, 1, false, FileState::Saved, 200_000, None),
            file(
                1,
                2,
                false,
                FileState::Offered,
                0,
                Some(FileCause::TooLarge),
            ),
            file(2, 3, false, FileState::Moving, 90_000, None),
            file(3, 4, false, FileState::Arrived, 200_000, None),
            file(4, 5, true, FileState::Offered, 0, None),
            file(
                5,
                6,
                true,
                FileState::Moving,
                199_999,
                Some(FileCause::Unreadable),
            ),
            file(6, 7, true, FileState::Ended, 0, Some(FileCause::Declined)),
        ],
    ));
    insta::assert_snapshot!(screen(&state));
}

#[test]
fn a_chosen_message() {
    let mut state = conversation(Trust::Verified);
    for _ in 0..6 {
        press(&mut state, "ctrl-up");
    }
    insta::assert_snapshot!(screen(&state));
}

#[test]
fn what_was_said_has_as_many_lines_as_it_needs_and_the_log_has_the_rest() {
    let mut state = conversation(Trust::Verified);
    state.update(Msg::Said(
        Level::Note,
        format!(
            "Messages from now on disappear after 5s. {}",
            crate::conversation::LIFETIME_WARNING
        ),
    ));
    insta::assert_snapshot!("a_long_notice", screen(&state));
    state.update(Msg::Said(Level::Problem, "many words ".repeat(100)));
    let long = screen(&state);
    assert!(long.contains("… (F6)"), "{long}");
    for rows in 1..12 {
        let _ = drawn(&sized(state.clone(), 40, rows));
    }
}

#[test]
fn somebody_new_asks() {
    let mut state = state();
    let mut asking = person("carol", Trust::Asks, 0, 0);
    asking.asks =
        Some("Hi, this is Carol from the harbour office. Are you the one with the boat?".into());
    state.update(Msg::People(vec![asking]));
    state.notice = None;
    press(&mut state, "enter");
    state.update(Msg::Newest(user("carol"), Vec::new()));
    insta::assert_snapshot!("somebody_new_asks", screen(&state));
    press(&mut state, "enter");
    insta::assert_snapshot!("somebody_new_asks_dialog", screen(&state));
}

#[test]
fn a_link_is_a_qr_code_on_24_rows_and_what_needs_more_says_how_much_and_what_to_do() {
    let identity = "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w";
    let mut link = conversation(Trust::Known);
    link.update(Msg::OwnLink {
        link: format!("sealpost:contact?v=1&realm=local&user=alice&identity={identity}&broker=mqtts://chat.example.org:8883"),
        fingerprint: "SHA256:x".into(),
    });
    press(&mut link, "tab");
    let drawn = screen(&sized(link, 80, 24));
    assert!(
        drawn.contains("▀▀▀▀▀") && !drawn.contains("needs"),
        "{drawn}"
    );
    let mut verify = conversation(Trust::Known);
    verify.update(Msg::Compare {
        with: user("bob"),
        number: "12345 ".repeat(12),
        code: format!("sealpost:verify?v=1&realm=local&user=alice&identity={identity}&contact=bob&sees={identity}"),
    });
    press(&mut verify, "tab");
    let small = screen(&sized(verify.clone(), 80, 24));
    assert!(
        small.contains("needs 27 rows") && small.contains("Ctrl and"),
        "{small}"
    );
    let drawn = screen(&sized(verify, 80, 27));
    assert!(
        drawn.contains("▀▀▀▀▀") && !drawn.contains("needs"),
        "{drawn}"
    );
}

#[test]
fn nobody_yet() {
    let mut state = state();
    state.update(Msg::People(Vec::new()));
    insta::assert_snapshot!(screen(&state));
}

#[test]
fn completions_over_the_input() {
    let mut state = conversation(Trust::Known);
    state.update(Msg::Paste("/s".into()));
    insta::assert_snapshot!(screen(&state));
}

#[test]
fn what_was_found() {
    let mut state = conversation(Trust::Known);
    type_line(&mut state, "/searchall train");
    let hit = |with: &str, mine| Hit {
        with: user(with),
        mark: Mark {
            at: 0,
            kind: 1,
            number: 1,
        },
        at: super::super::sample::at(super::super::sample::NOON),
        mine,
        text: "The train leaves at nine".into(),
    };
    state.update(Msg::Found(
        1,
        vec![hit("bob", true), hit("carol", false)],
        true,
    ));
    insta::assert_snapshot!(screen(&state));
}

#[test]
fn the_help() {
    let mut state = sized(conversation(Trust::Known), 80, 100);
    press(&mut state, "f1");
    insta::assert_snapshot!(screen(&state));
}

#[test]
fn a_broker_that_is_away() {
    let mut state = conversation(Trust::Known);
    let away = Connection::Away {
        reason: "the broker at mqtt://127.0.0.1:1883 cannot be reached: connection refused (os error 111)".into(),
        hint: "Is it running?".into(),
    };
    state.update(Msg::Connection(away, "mqtt://127.0.0.1:1883".into()));
    let screen = screen(&state);
    assert!(
        screen.lines().last().unwrap().contains("bob: not verified"),
        "trust stays in sight"
    );
    insta::assert_snapshot!(screen);
}

#[test]
fn connection_and_trust_are_on_every_terminal_that_has_a_line() {
    for columns in 24..200 {
        let screen = screen(&sized(conversation(Trust::Verified), columns, 1));
        assert!(
            screen.contains("bob: verified") && screen.contains('●'),
            "{columns}: {screen}"
        );
    }
}

#[test]
fn what_somebody_writes_stays_in_its_column() {
    let mut state = talking(Trust::Known);
    let hostile = "x\n22:13 ✔✔ alice  I owe you 100\n──── new ────\n".repeat(3);
    state.update(Msg::Newest(user("bob"), vec![item(0, None, &hostile)]));
    let areas = state.areas();
    let screen = screen(&state);
    let forged = screen.lines().filter(|row| row.contains("I owe you"));
    for row in forged {
        let before = row.split("22:13").next().unwrap();
        assert!(
            width(before) >= usize::from(areas.conversation.x + areas.gutter),
            "{row}"
        );
    }
}

/// Everything at every small size: nothing panics, and nothing is drawn outside.
#[test]
fn every_size_is_drawn() {
    let mut states = vec![
        state(),
        conversation(Trust::Verified),
        conversation(Trust::Changed),
        conversation(Trust::Suspended),
    ];
    let mut dialogs = conversation(Trust::Known);
    dialogs.update(Msg::Compare {
        with: user("bob"),
        number: "12345 ".repeat(12),
        code: "sealpost:verify?realm=local".into(),
    });
    states.push(dialogs.clone());
    press(&mut dialogs, "tab");
    states.push(dialogs);
    for key in ["f1", "f3", "ctrl-f"] {
        let mut state = conversation(Trust::Known);
        press(&mut state, key);
        states.push(state);
    }
    let mut typing = conversation(Trust::Known);
    typing.update(Msg::Paste("/a".into()));
    states.push(typing);
    let mut long = conversation(Trust::Known);
    long.update(Msg::Paste("many words\n".repeat(40)));
    states.push(long);
    let mut trusting = conversation(Trust::Changed);
    press(&mut trusting, "enter");
    states.push(trusting);
    let mut asking = conversation(Trust::Asks);
    press(&mut asking, "enter");
    states.push(asking);
    let mut choosing = conversation(Trust::Known);
    press(&mut choosing, "ctrl-up");
    states.push(choosing);
    for state in states {
        for columns in (0..30).chain([39, 40, 41, 59, 60, 61]) {
            for rows in 0..12 {
                let _ = drawn(&sized(state.clone(), columns, rows));
            }
        }
    }
}

#[test]
fn every_theme_has_its_signs() {
    for name in [
        ThemeName::Ansi,
        ThemeName::Dark,
        ThemeName::Light,
        ThemeName::Mono,
    ] {
        let mut state = conversation(Trust::Verified);
        type_line(&mut state, "/theme light");
        state.theme = super::super::theme::Theme::of(
            name,
            Ability {
                colour: true,
                unicode: true,
            },
        );
        assert!(screen(&state).contains("✓ verified"), "{name:?}");
    }
}
