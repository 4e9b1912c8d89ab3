//! What is said for a shell, said for somebody in the chat.

/// Commands of the shell, and those of the chat that do the same. Longer ones first.
const COMMANDS: [(&str, &str); 10] = [
    ("sealpost contacts verify ", "/verify "),
    ("sealpost contacts trust ", "/trust "),
    ("sealpost contacts accept ", "/accept "),
    ("sealpost contacts unblock ", "/unblock "),
    ("sealpost contacts block ", "/block "),
    ("sealpost add 'LINK'", "/add LINK"),
    ("sealpost invite", "/invite"),
    ("sealpost files save ", "/save "),
    ("sealpost files", "/files"),
    ("sealpost outbox retry", "/retry"),
];

/// The same text with the commands that can be typed here.
#[must_use]
pub fn in_the_chat(text: &str) -> String {
    let mut text = text.to_owned();
    for (shell, chat) in COMMANDS {
        text = text.replace(shell, chat);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::commands::Line;
    use super::*;

    #[test]
    fn what_is_named_instead_is_a_command_of_the_chat() {
        for (shell, chat) in COMMANDS {
            assert!(matches!(Line::parse(chat), Line::Command(..)), "{chat}");
            assert_eq!(
                in_the_chat(&format!("To be sure: {shell}")),
                format!("To be sure: {chat}")
            );
        }
        assert_eq!(
            in_the_chat("Is it running? sealpost doctor"),
            "Is it running? sealpost doctor"
        );
    }
}
