use super::*;

fn item(number: i64, text: &str) -> Item {
    let at = 1_700_000_000_000 + number * 60_000;
    Item {
        mark: Mark {
            at,
            kind: 1,
            number,
        },
        id: number.to_string(),
        state: None,
        problem: None,
        at: Timestamp::from_millis(at.try_into().unwrap()).unwrap(),
        text: text.to_owned(),
        imported: false,
        quote: None,
        edits: 0,
        expires: None,
        file: None,
    }
}

pub(super) fn items(numbers: std::ops::Range<i64>) -> Vec<Item> {
    numbers
        .map(|number| item(number, &format!("message {number}")))
        .collect()
}

pub(super) fn form(height: usize) -> Form {
    Form {
        room: 20,
        height,
        zone: TimeZone::UTC,
        unicode: true,
    }
}

pub(super) fn texts(transcript: &Transcript, height: usize) -> Vec<String> {
    let seen = transcript.seen(&form(height)).into_iter();
    seen.filter_map(|row| match row {
        Row::Text { text, .. } => Some(text),
        _ => None,
    })
    .collect()
}

#[test]
fn the_end_stays_in_sight_while_messages_come_and_what_is_read_above_stays_where_it_is() {
    let mut transcript = Transcript::default();
    transcript.newest(items(0..10), 0);
    assert_eq!(texts(&transcript, 2), ["message 8", "message 9"]);
    transcript.newest(items(0..11), 0);
    assert_eq!(texts(&transcript, 2), ["message 9", "message 10"]);
    transcript.back(3, &form(2));
    assert_eq!(texts(&transcript, 2), ["message 6", "message 7"]);
    transcript.newest(items(0..12), 0);
    assert_eq!(texts(&transcript, 2), ["message 6", "message 7"]);
    assert_eq!(transcript.below(), 4);
    transcript.on(4, &form(2));
    assert!(transcript.is_at_end());
}

#[test]
fn scrolling_ends_at_the_first_row_and_asks_for_older_pages_in_time() {
    let mut transcript = Transcript::default();
    let all = PAGE as i64;
    transcript.newest(items(all..2 * all), 0);
    assert_eq!(transcript.back(10, &form(10)), None, "far from the edge");
    let lack = transcript.back(150, &form(10));
    assert_eq!(lack, Some(Lack::Before(item(all, "").mark)));
    assert_eq!(transcript.back(1, &form(10)), None, "asked for once");
    let before = texts(&transcript, 10);
    transcript.older(item(all, "").mark, items(0..all));
    assert_eq!(
        texts(&transcript, 10),
        before,
        "nothing moves when it comes"
    );
    transcript.back(10_000, &form(10));
    assert_eq!(texts(&transcript, 10).first().unwrap(), "message 0");
    transcript.older(item(0, "").mark, Vec::new());
    assert_eq!(transcript.back(1, &form(10)), None);
}

#[test]
fn a_long_way_back_lets_go_of_the_end_and_the_way_on_loads_it_again() {
    let mut transcript = Transcript::default();
    let (page, all) = (i64::from(PAGE), 30 * i64::from(PAGE));
    transcript.newest(items(all - page..all), 0);
    let mut first = all - page;
    while first > 0 {
        if let Some(Lack::Before(mark)) = transcript.back(100, &form(10)) {
            assert_eq!(mark.number, first);
            transcript.older(mark, items(first - page..first));
            first -= page;
        }
    }
    assert!(transcript.items.len() <= MAX_ITEMS);
    assert!(!transcript.at_end);
    // Messages that come meanwhile do not tear a hole.
    transcript.newest(items(all - page + 1..all + 1), 0);
    let mut steps = 0;
    while !transcript.is_at_end() {
        if let Some(Lack::After(mark)) = transcript.on(100, &form(10)) {
            let from = mark.number + 1;
            transcript.newer(mark, items(from..(from + page).min(all + 1)));
        }
        steps += 1;
        assert!(steps < 1_000);
    }
    assert_eq!(texts(&transcript, 1), [format!("message {all}")]);
    let numbers: Vec<i64> = transcript.items().map(|item| item.mark.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
}

#[test]
fn every_row_is_passed_once_one_by_one_whatever_the_width() {
    for room in [3, 8, 40] {
        let mut transcript = Transcript::default();
        transcript.newest(
            (0..20)
                .map(|n| item(n, &"word ".repeat(n as usize)))
                .collect(),
            0,
        );
        let form = Form {
            room,
            height: 5,
            zone: TimeZone::UTC,
            unicode: true,
        };
        let whole = Form {
            height: 10_000,
            ..form.clone()
        };
        let all = transcript.seen(&whole);
        for end in (5..all.len()).rev() {
            transcript.back(1, &form);
            assert_eq!(
                transcript.seen(&form),
                all[end - 5..end],
                "room {room}, end {end}"
            );
        }
        for end in 6..=all.len() {
            transcript.on(1, &form);
            assert_eq!(
                transcript.seen(&form),
                all[end - 5..end],
                "room {room}, end {end}"
            );
        }
        assert!(transcript.is_at_end());
    }
}

#[test]
fn what_is_new_is_marked_from_its_first_message_on() {
    let mut transcript = Transcript::default();
    transcript.newest(items(0..5), 2);
    let seen = transcript.seen(&form(10));
    let at = seen.iter().position(|row| *row == Row::New).unwrap();
    assert!(matches!(&seen[at + 1], Row::Text { text, .. } if text == "message 3"));
}

#[test]
fn a_message_of_a_thousand_lines_does_not_push_the_others_away() {
    let mut transcript = Transcript::default();
    transcript.newest(vec![item(0, &"x\n".repeat(50_000)), item(1, "after")], 0);
    let rows = transcript.seen(&form(10_000)).len();
    assert!(rows < MAX_ROWS + 10, "{rows}");
}

#[test]
fn days_and_times_are_those_of_the_zone() {
    let at = Timestamp::from_millis(1_700_006_400_000).unwrap();
    assert_eq!(
        (day(at, &TimeZone::UTC), time(at, &TimeZone::UTC)),
        ("Wed 2023-11-15".into(), "00:00".into())
    );
    let west = TimeZone::fixed(jiff::tz::offset(-5));
    assert_eq!(
        (day(at, &west), time(at, &west)),
        ("Tue 2023-11-14".into(), "19:00".into())
    );
}
