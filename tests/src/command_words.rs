//! Our programs' command lines in a piece of shell, as far as a program can tell whether it understands them without doing anything.

use std::process::Command;

use crate::program;

const PROGRAMS: [&str; 4] = [
    "sealpost",
    "sealpost-broker",
    "sealpost-archiver",
    "sealpost-device",
];

/// What the programs do not understand of their command lines in this piece of shell: flags and commands that there are not. Nothing
/// is done: each is asked for the help of that command.
#[must_use]
pub fn misunderstood(shell: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for words in command_lines(shell) {
        // What stands before may set variables, or run it in some way.
        let before = |word: &String| {
            word.contains('=')
                || ["sudo", "exec", "time", "timeout"].contains(&word.as_str())
                || word.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        };
        let words: Vec<String> = words.into_iter().skip_while(before).collect();
        let Some((name, arguments)) = words.split_first() else {
            continue;
        };
        let name = name.rsplit('/').next().unwrap_or_default();
        if !PROGRAMS.contains(&name) {
            continue;
        }
        let mut command = Command::new(program(name));
        let output = command.args(arguments).arg("--help").output().unwrap();
        let says = String::from_utf8_lossy(&output.stderr);
        // A place to be filled in, such as NAME, is no value, and a sentence may leave it out; the flag before it is known then.
        let known = says.contains("invalid value") || says.contains("a value is required");
        if !output.status.success() && !known {
            let first = says.lines().next().unwrap_or_default();
            wrong.push(format!("{name} {}: {first}", arguments.join(" ")));
        }
    }
    wrong
}

/// Splits a piece of shell into simple commands and their words. Knows quotes, continued lines, comments, redirections and
/// substitutions as far as pages of documentation have them.
fn command_lines(shell: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = shell.chars().peekable();
    // What follows a redirection is the name of a file.
    let mut file = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(c) => word.get_or_insert_default().push(c),
            },
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                for inner in chars.by_ref().take_while(|inner| *inner != c) {
                    word.push(inner);
                }
            }
            '(' if word.as_ref().is_some_and(|word| word.ends_with(['$', '<'])) => {
                let mut inner = String::new();
                let mut depth = 1;
                for c in chars.by_ref() {
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    if depth == 0 {
                        break;
                    }
                    inner.push(c);
                }
                all.extend(command_lines(&inner));
            }
            '#' if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            // The number of a stream that goes elsewhere.
            '<' | '>'
                if word
                    .as_ref()
                    .is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit())) =>
            {
                word = None;
                file = true;
                chars.next_if_eq(&'&');
            }
            c if c.is_whitespace() || "|&;<>()".contains(c) => {
                if let Some(word) = word.take()
                    && !std::mem::take(&mut file)
                {
                    words.push(word);
                }
                match c {
                    '<' | '>' => {
                        file = true;
                        chars.next_if_eq(&'&');
                    }
                    '\n' | '|' | '&' | ';' | '(' | ')' => all.push(std::mem::take(&mut words)),
                    _ => {}
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.filter(|_| !file));
    all.push(words);
    all
}
