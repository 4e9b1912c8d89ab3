use super::*;

const FILE: &str = "user = \"file\"\nbroker = \"mqtt://file:1\"\nrealm = \"file\"\nhome = \"/file\"\n\
                        passphrase_command = \"file\"\nbroker_password_command = \"file\"\ntimeout = \"3s\"\ntrust = \"known\"\n";

fn environment(name: &str) -> Option<String> {
    Some(match name {
        "SEALPOST_USER" | "SEALPOST_REALM" => "environment".to_owned(),
        "SEALPOST_BROKER" => "mqtt://environment:2".to_owned(),
        "SEALPOST_HOME" => "/environment".to_owned(),
        "SEALPOST_PASSPHRASE_COMMAND" | "SEALPOST_BROKER_PASSWORD_COMMAND" => {
            "environment".to_owned()
        }
        _ => return None,
    })
}

fn nothing(name: &str) -> Option<String> {
    (name == "HOME").then(|| "/home/someone".to_owned())
}

fn flags() -> Global {
    Global {
        user: Some("flag".into()),
        broker: vec!["mqtt://flag:3".into()],
        realm: Some("flag".into()),
        home: Some("/flag".into()),
        passphrase_command: Some("flag".into()),
        broker_password_command: Some("flag".into()),
        ..Global::default()
    }
}

fn load(
    flags: &Global,
    environment: Environment<'_>,
    file: Option<&str>,
) -> Result<Settings, SettingsError> {
    Settings::layer(
        flags,
        environment,
        file.map(|text| (Path::new("client.toml"), text)),
    )
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let none = Global::default();
    let cases: [(&str, Settings); 3] = [
        ("flag", load(&flags(), &environment, Some(FILE)).unwrap()),
        (
            "environment",
            load(&none, &environment, Some(FILE)).unwrap(),
        ),
        ("file", load(&none, &nothing, Some(FILE)).unwrap()),
    ];
    for (layer, settings) in cases {
        assert_eq!(settings.user.as_str(), layer);
        assert_eq!(settings.realm.as_str(), layer);
        assert_eq!(settings.broker.current().host(), layer);
        assert_eq!(settings.home, PathBuf::from(format!("/{layer}")));
        assert_eq!(settings.passphrase_command.as_deref(), Some(layer));
        assert_eq!(settings.broker_password_command.as_deref(), Some(layer));
        assert_eq!(settings.timeout, Duration::from_secs(3));
    }
    let only_user = Global {
        user: Some("alice".into()),
        ..Global::default()
    };
    let settings = load(&only_user, &nothing, None).unwrap();
    assert_eq!(settings.broker.to_string(), DEFAULT_BROKER);
    assert_eq!(settings.realm.as_str(), DEFAULT_REALM);
    assert_eq!(settings.timeout, Duration::from_secs(10));
    assert_eq!(
        settings.home,
        PathBuf::from("/home/someone/.local/share/sealpost/alice")
    );
    assert_eq!(settings.passphrase_command, None);
    let age = Duration::from_secs(90 * 24 * 60 * 60);
    assert_eq!(settings.rotate_keys_after, Some(age));
}

#[test]
fn several_brokers_come_repeated_with_commas_or_as_an_array() {
    let brokers = |flags: &[&str], file: Option<&str>| {
        let flags = Global {
            user: Some("alice".into()),
            broker: flags.iter().map(|&url| url.to_owned()).collect(),
            ..Global::default()
        };
        load(&flags, &nothing, file).unwrap().broker.to_string()
    };
    let both = "mqtts://a:8883,wss://b:443/mqtt";
    let file = "broker = [\"mqtts://c\"]";
    assert_eq!(brokers(&["mqtts://a,wss://b"], Some(file)), both);
    assert_eq!(brokers(&["mqtts://a", "wss://b"], Some(file)), both);
    assert_eq!(brokers(&[], Some("broker = \"mqtts://a, wss://b\"")), both);
    assert_eq!(
        brokers(&[], Some("broker = [\"mqtts://a\", \"wss://b\"]")),
        both
    );
}

#[test]
fn half_a_certificate_and_a_strange_proxy_are_refused() {
    for (text, expected) in [
        ("client_cert = \"a.pem\"", "--client-key"),
        ("proxy = \"ftp://alice:secret@h\"", "http://HOST:PORT"),
    ] {
        let refused = load(&flags(), &nothing, Some(text))
            .unwrap_err()
            .to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(!refused.contains("secret"));
    }
}

#[test]
fn two_users_of_one_machine_have_two_homes() {
    let home = |user: &str| {
        let flags = Global {
            user: Some(user.into()),
            ..Global::default()
        };
        load(&flags, &nothing, None).unwrap().home
    };
    assert_ne!(home("alice"), home("bob"));
}

#[test]
fn a_relative_xdg_path_is_ignored_as_the_specification_says() {
    let environment = |name: &str| {
        Some(match name {
            "HOME" => "/home/someone".to_owned(),
            "XDG_DATA_HOME" => "relative".to_owned(),
            _ => return None,
        })
    };
    let flags = Global {
        user: Some("alice".into()),
        ..Global::default()
    };
    assert_eq!(
        load(&flags, &environment, None).unwrap().home,
        PathBuf::from("/home/someone/.local/share/sealpost/alice")
    );
}

#[test]
fn an_unknown_key_is_refused_by_name_with_a_hint() {
    for (text, unknown, hint) in [
        ("brokr = \"mqtt://h\"", "brokr", Some("broker")),
        ("usr = \"a\"", "usr", Some("user")),
        ("passphrase = \"secret\"", "passphrase", None),
        ("colour = \"red\"", "colour", None),
        ("[tls]\nca_file = \"x\"", "tls", None),
    ] {
        match load(&flags(), &nothing, Some(text)) {
            Err(SettingsError::UnknownKey { key, nearest, path }) => {
                assert_eq!(key, unknown);
                assert_eq!(nearest, hint);
                assert_eq!(path, PathBuf::from("client.toml"));
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_file_that_is_not_toml_or_has_a_wrong_type_is_refused() {
    for text in ["user =", "user = [1, 2]", "{", "user = \"a\"\nuser = \"b\""] {
        let refused = load(&flags(), &nothing, Some(text));
        assert!(
            matches!(refused, Err(SettingsError::Malformed { .. })),
            "{text}: {refused:?}"
        );
    }
}

#[test]
fn malformed_values_name_themselves() {
    let with = |change: fn(&mut Global)| {
        let mut flags = flags();
        change(&mut flags);
        load(&flags, &nothing, None)
    };
    assert!(matches!(
        with(|f| f.user = Some("Alice".into())),
        Err(SettingsError::User { .. })
    ));
    assert!(matches!(
        with(|f| f.user = None),
        Err(SettingsError::NoUser)
    ));
    assert!(matches!(
        with(|f| f.realm = Some("a/b".into())),
        Err(SettingsError::Realm { .. })
    ));
    assert!(matches!(
        with(|f| f.broker = vec!["nowhere".into()]),
        Err(SettingsError::Route(RouteOptionsError::Broker { .. }))
    ));
    for age in [
        "90", "0d", "d", "-1d", "1.5d", "+1d", "3651d", "90 d", "12h", "",
    ] {
        let file = format!("rotate_keys_after = \"{age}\"");
        assert!(
            matches!(
                load(&flags(), &nothing, Some(&file)),
                Err(SettingsError::Age { .. })
            ),
            "{age}"
        );
    }
    let never = load(&flags(), &nothing, Some("rotate_keys_after = \"never\""));
    assert_eq!(never.unwrap().rotate_keys_after, None);
    assert!(matches!(
        load(&flags(), &nothing, Some("timeout = \"soon\"")),
        Err(SettingsError::Timeout { .. })
    ));
    let homeless = Global {
        home: None,
        ..flags()
    };
    assert!(matches!(
        load(&homeless, &|_| None, None),
        Err(SettingsError::NoHome)
    ));
}

#[test]
fn the_commented_default_file_says_what_the_defaults_are() {
    let text = include_str!("../../../config/client.toml");
    let uncommented: String = text
        .lines()
        .filter_map(|line| line.strip_prefix('#').or(Some(line)))
        .filter(|line| {
            KEYS.iter()
                .any(|key| line.starts_with(&format!("{key} = ")))
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    // Tables have lines of their own, and that of a device a file: config/device.toml.
    let tables = ["chat", "device"];
    for key in KEYS.into_iter().filter(|key| !tables.contains(key)) {
        assert!(
            uncommented.contains(&format!("{key} = ")),
            "config/client.toml does not mention {key}"
        );
    }
    let (_, chat) = text.split_once("#[chat]\n").unwrap();
    for key in CHAT_KEYS.into_iter().filter(|key| *key != "keys") {
        assert!(chat.contains(&format!("\n#{key} = ")), "{key}");
    }
    let chat: String = format!("[chat]\n{chat}")
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|line| !line.starts_with(' '))
                .unwrap_or(line)
        })
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect();
    let with_chat = load(&flags(), &nothing, Some(&chat)).unwrap().chat;
    assert_eq!(with_chat.theme.as_deref(), Some("auto"));
    assert!(with_chat.keys.unwrap().contains_key("quit"));
    let none = Global::default();
    load(&flags(), &nothing, Some(text)).unwrap();
    let settings = load(&none, &nothing, Some(&uncommented)).unwrap();
    assert_eq!(settings.broker.to_string(), DEFAULT_BROKER);
    assert_eq!(settings.realm.as_str(), DEFAULT_REALM);
    assert_eq!(settings.timeout, Duration::from_secs(10));
}
