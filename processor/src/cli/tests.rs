use super::*;

fn parsed(line: &str) -> Result<Invocation, Failure> {
    parse(std::iter::once("dosi").chain(line.split_whitespace()).map(Into::into))
}

fn fault(line: &str) -> String {
    let text = parsed(line).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

fn run(line: &str) -> RunSettings {
    match parsed(line) {
        Ok(Invocation::Command(command)) => match *command {
            Command::Run(settings) => settings,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn defaults_are_those_of_the_interface() {
    let settings = run("run");
    assert_eq!(settings.kafka.bootstrap_servers, "localhost:9092");
    assert_eq!(settings.registry.url.base, "http://localhost:8081");
    assert_eq!(settings.database.url.expose(), "postgres://localhost/dos");
    assert_eq!(settings.database.schema.as_str(), "pathwaysdos");
    assert_eq!(settings.database.pool_size, 4);
    assert_eq!(settings.topics.change_events, "dos.change-events");
    assert_eq!(settings.topics.audit, "dos.audit");
    assert_eq!(settings.topics.dead_letter, "dos.change-events.dead-letter");
    assert_eq!((settings.topics.partitions, settings.topics.replication), (12, None));
    assert_eq!(settings.processing.batch_events_max, 500);
    assert_eq!(settings.deployment.group_id, "dosi");
    assert_eq!(settings.deployment.environment, "local");
    assert_eq!(settings.processing.http_listen, "0.0.0.0:9464");
    assert_eq!(settings.processing.today, None);
    assert_eq!(settings.log.filter, "info");
    assert!(!settings.exit_at_end && !settings.processing.instance_id.is_empty());
}

#[test]
fn each_wrong_setting_is_named_in_one_line() {
    let wrong = [
        ("--kafka-bootstrap-servers a:b", "DOSI_KAFKA_BOOTSTRAP_SERVERS"),
        ("--kafka-config /nowhere", "DOSI_KAFKA_CONFIG"),
        ("--schema-registry-url nowhere", "DOSI_SCHEMA_REGISTRY_URL"),
        ("--schema-registry-password-file /nowhere", "DOSI_SCHEMA_REGISTRY_PASSWORD_FILE"),
        ("--schema-registry-ca-file /nowhere", "DOSI_SCHEMA_REGISTRY_CA_FILE"),
        ("--database-url mysql://x", "DOSI_DATABASE_URL"),
        ("--database-password-file /nowhere", "DOSI_DATABASE_PASSWORD_FILE"),
        ("--database-schema a-b", "DOSI_DATABASE_SCHEMA"),
        ("--database-pool-size 0", "DOSI_DATABASE_POOL_SIZE"),
        ("--change-events-topic a/b", "DOSI_CHANGE_EVENTS_TOPIC"),
        ("--audit-topic dos.change-events", "DOSI_AUDIT_TOPIC"),
        ("--dead-letter-topic .", "DOSI_DEAD_LETTER_TOPIC"),
        ("--topic-partitions 0", "DOSI_TOPIC_PARTITIONS"),
        ("--topic-replication x", "DOSI_TOPIC_REPLICATION"),
        ("--batch-events-max 0", "DOSI_BATCH_EVENTS_MAX"),
        ("--group-id /", "DOSI_GROUP_ID"),
        ("--instance-id /", "DOSI_INSTANCE_ID"),
        ("--environment é", "DOSI_ENVIRONMENT"),
        ("--http-listen 9464", "DOSI_HTTP_LISTEN"),
        ("--today tomorrow", "DOSI_TODAY"),
        ("--log a=b=c", "DOSI_LOG"),
        ("--log-format xml", "DOSI_LOG_FORMAT"),
    ];
    for (flags, setting) in wrong {
        let text = fault(&format!("run {flags}"));
        assert!(text.contains(setting), "{flags}: {text}");
    }
}

#[test]
fn wrong_use_is_one_line() {
    for (line, part) in [
        ("", "command"),
        ("walk", "walk"),
        ("run --frobnicate", "--frobnicate"),
        ("run --group-id", "--group-id"),
        ("publish", "FILE"),
        ("", "see dosi --help (migrate, topics, run, position, publish, completions)"),
        ("position", "a command is missing; see dosi position --help (show, set)"),
        ("position set --partition 1", "--offset"),
        ("position set --partition -1 --offset 0 --reason x", "partition"),
        ("completions", "SHELL"),
    ] {
        let text = fault(line);
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn a_password_without_a_user_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "tiger\n").unwrap();
    let flag = format!("--schema-registry-password-file {}", file.path().display());
    assert!(fault(&format!("topics {flag}")).contains("DOSI_SCHEMA_REGISTRY_PASSWORD_FILE"));
    let settings = run(&format!("run --schema-registry-url http://me:old@host {flag}"));
    let (user, password) = settings.registry.credentials().unwrap();
    assert_eq!((user, password.unwrap().expose()), ("me", "tiger"));
}

#[test]
fn secrets_do_not_show() {
    let settings = run("run --database-url postgres://me:hunter2@db/dos --schema-registry-url http://me:hunter2@host");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let text = fault("run --database-url postgres://me:hunter2@db:x/dos");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn every_command_explains_itself_with_examples() {
    for line in ["--help", "migrate --help", "topics --help", "run --help", "position --help", "position set --help"] {
        match parsed(line) {
            Ok(Invocation::Print(text)) => assert!(text.contains("Examples:"), "{line}: {text}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}
