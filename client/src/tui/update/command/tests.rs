use super::super::super::sample::{attachment, item, line, person, press, state, talking, user};
use super::*;
use crate::store::{FileCause, FileState, SendState};

/// Bob's and our messages, and a file of each of us.
fn conversation() -> State {
    let mut state = talking(Trust::Known);
    let mut his = item(3, None, "[file plans.pdf (200.00 kB)]");
    his.file = Some(attachment(7, false, FileState::Offered));
    let mut ours = item(
        4,
        Some(SendState::Delivered),
        "[file tickets.pdf (200.00 kB)]",
    );
    ours.file = Some(attachment(8, true, FileState::Moving));
    state.update(Msg::Newest(
        user("bob"),
        vec![
            item(1, None, "first"),
            item(2, Some(SendState::Delivered), "second"),
            his,
            ours,
            item(5, Some(SendState::Delivered), "fifth"),
            item(6, None, "sixth"),
        ],
    ));
    state
}

fn which(mine: bool, id: &str) -> Option<Which> {
    let id = id.to_owned();
    Some(Which { mine, id })
}

/// The message of this number is chosen.
fn choose(state: &mut State, number: i64) {
    press(state, "ctrl-up");
    while state.transcript().unwrap().chosen().unwrap().mark.number > number {
        press(state, "up");
    }
}

#[test]
fn commands_are_about_the_last_message_or_the_chosen_one() {
    let mut state = conversation();
    let change = |change| vec![Effect::Change(user("bob"), change)];
    assert_eq!(
        line(&mut state, "/reply yes"),
        change(Change::Reply(None, "yes".into()))
    );
    assert_eq!(
        line(&mut state, "/edit 5th"),
        change(Change::Edit(None, "5th".into()))
    );
    assert_eq!(line(&mut state, "/delete"), change(Change::Delete(None)));
    choose(&mut state, 2);
    assert_eq!(
        line(&mut state, "/reply yes"),
        change(Change::Reply(which(true, "2"), "yes".into()))
    );
    assert!(state.transcript().unwrap().chosen().is_none(), "once");
    choose(&mut state, 1);
    for refused in ["/edit no", "/edit", "/delete"] {
        assert!(
            line(&mut state, refused).is_empty(),
            "{refused}: it is bob's"
        );
        press(&mut state, "ctrl-u");
    }
    assert_eq!(
        line(&mut state, "/delete here"),
        change(Change::Erase(which(false, "1").unwrap()))
    );
    choose(&mut state, 2);
    assert_eq!(
        line(&mut state, "/delete"),
        change(Change::Delete(which(true, "2")))
    );
    choose(&mut state, 1);
    assert_eq!(line(&mut state, "/copy"), [Effect::Copy("first".into())]);
    assert_eq!(line(&mut state, "/copy"), [Effect::Copy("sixth".into())]);
}

#[test]
fn an_edit_begins_with_the_text_there_is() {
    let mut state = conversation();
    press(&mut state, "alt-e");
    assert_eq!(state.input().text(), "/edit fifth");
    press(&mut state, "ctrl-u");
    choose(&mut state, 2);
    line(&mut state, "/edit");
    assert_eq!(
        line(&mut state, "!"),
        [Effect::Change(
            user("bob"),
            Change::Edit(which(true, "2"), "second!".into())
        )]
    );
    state.update(Msg::Paste("an answer".into()));
    press(&mut state, "alt-r");
    assert_eq!(state.input().text(), "/reply an answer");
    press(&mut state, "alt-e");
    assert_eq!(
        state.input().text(),
        "/reply an answer",
        "what is written stays"
    );
}

#[test]
fn esc_and_a_message_end_the_choice_and_while_nothing_is_typed_plain_keys_move_it() {
    let mut state = conversation();
    let chosen = |state: &State| {
        state
            .transcript()
            .unwrap()
            .chosen()
            .map(|item| item.mark.number)
    };
    press(&mut state, "up");
    assert_eq!(
        chosen(&state),
        None,
        "the up key alone brings back what was sent"
    );
    press(&mut state, "alt-k");
    press(&mut state, "up");
    assert_eq!(chosen(&state), Some(5));
    press(&mut state, "alt-j");
    assert_eq!(chosen(&state), Some(6));
    press(&mut state, "down");
    assert_eq!(chosen(&state), None, "below the last there is none");
    choose(&mut state, 4);
    press(&mut state, "esc");
    assert_eq!(chosen(&state), None);
    choose(&mut state, 4);
    assert_eq!(
        line(&mut state, "hello"),
        [Effect::Send(user("bob"), "hello".into())]
    );
    assert_eq!(chosen(&state), None);
}

#[test]
fn files_are_offered_saved_and_cancelled() {
    let mut state = conversation();
    assert_eq!(
        line(&mut state, "/file ~/my plan.pdf"),
        [Effect::Offer(user("bob"), "~/my plan.pdf".into())]
    );
    assert!(line(&mut state, "/file").is_empty());
    for (typed, effect) in [
        ("/save", Effect::Save(7, None)),
        (
            "/save /tmp/my files",
            Effect::Save(7, Some("/tmp/my files".into())),
        ),
        ("/save 3", Effect::Save(3, None)),
        ("/save 3 in", Effect::Save(3, Some("in".into()))),
        ("/cancel", Effect::Cancel(8)),
        ("/cancel 7", Effect::Cancel(7)),
        ("/files", Effect::Files),
    ] {
        assert_eq!(line(&mut state, typed), [effect], "{typed}");
    }
    choose(&mut state, 3);
    assert_eq!(line(&mut state, "/cancel"), [Effect::Cancel(7)]);
    choose(&mut state, 2);
    assert!(line(&mut state, "/save").is_empty(), "that is no file");
    assert!(state.notice.as_ref().unwrap().text.contains("/files"));
    for blocked in [Trust::Changed, Trust::Blocked] {
        let mut state = talking(blocked);
        let effects = line(&mut state, "/file plan.pdf");
        assert!(effects.is_empty(), "{effects:?}");
    }
}

#[test]
fn a_file_that_gets_further_is_drawn_so_and_said_once() {
    let mut state = conversation();
    let mut file = attachment(7, false, FileState::Moving);
    file.done = 100_000;
    state.notice = None;
    state.update(Msg::File(user("bob"), "3".into(), file.clone()));
    let item = state.transcript().unwrap().items().nth(2).unwrap();
    assert_eq!(item.file.as_ref(), Some(&file));
    assert!(state.notice.is_none());
    file.cause = Some(FileCause::DiskFull);
    for said in [true, false] {
        state.notice = None;
        state.update(Msg::File(user("bob"), "3".into(), file.clone()));
        assert_eq!(state.notice.is_some(), said);
    }
    file.cause = None;
    file.state = FileState::Arrived;
    state.notice = None;
    state.update(Msg::File(user("bob"), "3".into(), file.clone()));
    assert!(state.notice.is_none(), "it is before the eyes");
    line(&mut state, "/to carol");
    file.state = FileState::Moving;
    state.update(Msg::File(user("bob"), "3".into(), file.clone()));
    file.state = FileState::Arrived;
    state.update(Msg::File(user("bob"), "3".into(), file.clone()));
    assert!(
        state
            .notice
            .as_ref()
            .unwrap()
            .text
            .contains("is here: /save 7")
    );
    for number in 0..5_000 {
        file.number = number;
        state.update(Msg::File(user("mallory"), number.to_string(), file.clone()));
    }
    assert!(state.files.len() <= 1_000);
}

#[test]
fn a_path_is_completed_by_what_the_disk_has() {
    let mut state = conversation();
    state.update(Msg::Paste("/file ~/pl".into()));
    assert_eq!(
        press(&mut state, "tab"),
        [Effect::Paths("/file ".into(), "~/pl".into())]
    );
    let paths = |names: &[&str]| names.iter().map(|name| format!("/file ~/{name}")).collect();
    state.update(Msg::Paths(
        "/file ~/pl".into(),
        paths(&["plan.pdf", "plans/"]),
    ));
    assert_eq!(state.input().text(), "/file ~/plan");
    assert_eq!(state.paths.as_ref().unwrap().1.len(), 2);
    state.update(Msg::Paths("/file ~/other".into(), paths(&["other"])));
    assert_eq!(
        state.input().text(),
        "/file ~/plan",
        "that was typed before"
    );
    state.update(Msg::Paths(
        "/file ~/plan".into(),
        paths(&["planö", "planß"]),
    ));
    assert_eq!(state.input().text(), "/file ~/plan");
    state.update(Msg::Paths("/file ~/plan".into(), paths(&["plan.pdf"])));
    assert_eq!(state.input().text(), "/file ~/plan.pdf");
}

#[test]
fn who_asks_is_let_in_by_a_whole_word_and_nothing_goes_to_them_before() {
    let mut state = state();
    let mut asking = person("carol", Trust::Asks, 0, 0);
    asking.asks = Some("May I?".into());
    state.update(Msg::People(Vec::new()));
    let told = state.update(Msg::People(vec![asking.clone()]));
    assert!(
        matches!(told.as_slice(), [Effect::Notify(who, words)] if who == "carol" && !words.contains("May I?"))
    );
    assert!(
        state.update(Msg::People(vec![asking.clone()])).is_empty(),
        "once"
    );
    press(&mut state, "enter");
    assert!(line(&mut state, "hello").is_empty());
    press(&mut state, "ctrl-u");
    for (answer, effects) in [
        ("", Vec::new()),
        ("perhaps", Vec::new()),
        ("no", Vec::new()),
        ("yes", vec![Effect::Deal(user("carol"), Dealing::Accept)]),
        ("block", vec![Effect::Deal(user("carol"), Dealing::Block)]),
    ] {
        press(&mut state, "enter");
        assert!(
            matches!(&state.dialog, Some(Dialog::Request { asks, .. }) if asks == "May I?"),
            "{answer}"
        );
        assert_eq!(line(&mut state, answer), effects, "{answer}");
        press(&mut state, "esc");
    }
    press(&mut state, "enter");
    state.update(Msg::People(vec![person("carol", Trust::Known, 1, 0)]));
    assert!(state.dialog.is_none(), "it was decided elsewhere");
}

#[test]
fn what_is_told_of_a_message_is_as_it_was_set_for_who_wrote_it() {
    use crate::store::Notify;
    let mut state = talking(Trust::Known);
    let mut told = |notify, everybody| {
        state.preferences.notify_text = everybody;
        let mut carol = person("carol", Trust::Known, 1, 0);
        carol.notify = notify;
        carol.muted = notify == Some(Notify::None);
        state.update(Msg::People(vec![person("bob", Trust::Known, 0, 1), carol]));
        let effects = state.update(Msg::Arrived(user("carol"), "the plan".into()));
        effects.into_iter().find_map(|effect| match effect {
            Effect::Notify(_, words) => Some(words),
            _ => None,
        })
    };
    for everybody in [false, true] {
        let usual = if everybody {
            "the plan"
        } else {
            "a new message"
        };
        assert_eq!(told(None, everybody).as_deref(), Some(usual));
        assert_eq!(
            told(Some(Notify::Full), everybody).as_deref(),
            Some("the plan")
        );
        assert_eq!(
            told(Some(Notify::Name), everybody).as_deref(),
            Some("a new message")
        );
        assert_eq!(told(Some(Notify::None), everybody), None);
    }
}
