use super::*;

fn from_toml(text: &str) -> Result<Settings, SettingsError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.toml");
    std::fs::write(&file, text).unwrap();
    Settings::load(Some(file), Overrides::default())
}

#[test]
fn the_defaults_serve_loopback_and_register_whoever_comes() {
    let settings = from_toml("").unwrap();
    assert!(settings.listen.ip().is_loopback() && settings.open_registration && !settings.open);
}

#[test]
fn the_sample_file_says_what_the_defaults_are() {
    let sample = include_str!("../../../config/broker.toml");
    let uncommented = sample
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .collect::<Vec<_>>()
        .join("\n");
    let (sample, defaults) = (from_toml(&uncommented).unwrap(), from_toml("").unwrap());
    assert_eq!(sample.limits, defaults.limits);
    assert_eq!(
        (sample.realm, sample.listen),
        (defaults.realm, defaults.listen)
    );
}

#[test]
fn a_name_that_resolves_can_be_listened_on() {
    assert!(
        from_toml("listen = \"localhost:0\"")
            .unwrap()
            .listen
            .ip()
            .is_loopback()
    );
}

#[test]
fn other_machines_are_served_only_when_asked_for_and_an_open_broker_never() {
    assert!(matches!(
        from_toml("listen = \"0.0.0.0:1883\""),
        Err(SettingsError::PlainRemote(_))
    ));
    let remote = from_toml("listen = \"0.0.0.0:1883\"\nplain_remote = true").unwrap();
    assert!(
        !remote.open_registration,
        "registration closes where anybody could come"
    );
    let open = "listen = \"0.0.0.0:1883\"\nplain_remote = true\nopen = true";
    assert!(matches!(from_toml(open), Err(SettingsError::OpenRemote(_))));
}

#[test]
fn tls_may_serve_other_machines_and_closes_open_registration_there() {
    let tls = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
    let remote = from_toml(tls).unwrap();
    assert_eq!(remote.tls.unwrap().listen.port(), 8883);
    assert!(!remote.open_registration && remote.listen.ip().is_loopback());
    let here = from_toml(&format!("{tls}listen = \"127.0.0.1:8883\"")).unwrap();
    assert!(here.open_registration);
    assert!(matches!(
        from_toml(&format!("open = true\n{tls}")),
        Err(SettingsError::OpenRemote(_))
    ));
    let error = from_toml("[tls]\ncertificate = \"c\"").unwrap_err();
    assert!(error.to_string().contains("key"), "{error}");
}

#[test]
fn what_becomes_of_a_full_archiver_is_one_of_two_words() {
    let part = from_toml("[limits]\narchiver_full = \"part\"").unwrap();
    assert!(part.bounds().part_with_archivers);
    assert!(!from_toml("").unwrap().bounds().part_with_archivers);
    let error = from_toml("[limits]\narchiver_full = \"drop\"").unwrap_err();
    assert!(error.to_string().contains("archiver_full"), "{error}");
}

#[test]
fn a_bad_value_is_named_with_its_key() {
    for (text, key) in [
        ("realm = \"UPPER\"", "realm"),
        ("listen = \"nowhere\"", "listen"),
        ("origins = [\"chat.example\"]", "origins"),
        (
            "[tls]\nlisten = \"here\"\ncertificate = \"c\"\nkey = \"k\"",
            "tls.listen",
        ),
        (
            "[[archivers]]\nname = \"archiver\"\nkey = \"short\"",
            "archivers.key",
        ),
        ("[limits]\npacket = 10", "limits.packet"),
        ("[limits]\nreceive_maximum = 0", "limits.receive_maximum"),
        ("[audit]\nbytes = 1", "audit.bytes"),
        ("[audit]\nolder = 100000", "audit.older"),
        (
            "[[operators]]\nname = \"ops\"\nkey = \"short\"",
            "operators.key",
        ),
    ] {
        let error = from_toml(text).unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
}
