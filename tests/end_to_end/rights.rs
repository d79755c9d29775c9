//! What a database role needs, as dosi tells it.

use dosi_tests::dos::Dos;
use dosi_tests::program::Dosi;

use crate::support_faults::assert_one_line;

/// dosi as a role that had no right on any table and was given what dosi said that it lacks, and nothing else.
pub(crate) async fn with_rights_as_told(dosi: Dosi, dos: &Dos) -> Dosi {
    let role = dos.url().rsplit_once('/').unwrap().1;
    let create = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'local';
         GRANT USAGE ON SCHEMA pathwaysdos, dos_integration TO {role};
         GRANT SELECT ON dos_integration.migrations TO {role}"
    );
    dos.client().batch_execute(&create).await.unwrap();
    let dosi = dosi.with("DOSI_DATABASE_URL", &dos.url().replacen("postgres:local@", &format!("{role}:local@"), 1));
    let refused = dosi.clone().with("DOSI_HTTP_LISTEN", "127.0.0.1:0").run(&["run"]).unwrap();
    // The last of them no golden case would miss.
    assert_one_line(&refused, 2, &[&format!("role {role} lacks rights: "), "INSERT on dos_integration.kept_history"]);
    let missing = refused.stderr.split_once("lacks rights: ").unwrap().1.trim_end().to_owned();
    let grants: Vec<_> = missing.split(", ").map(|right| format!("GRANT {right} TO {role}")).collect();
    let grant = format!("SET search_path = pathwaysdos; {}; RESET search_path", grants.join("; "));
    dos.client().batch_execute(&grant).await.unwrap();
    dosi
}
