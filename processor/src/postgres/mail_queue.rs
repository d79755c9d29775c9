//! `dos_integration.mail_queue`: rejection e-mails, queued in the transaction that rejects (rules 4.2 to 4.4).
//! Personal data: rows are for the mail worker alone.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::{Result, archive::without_nul, statement::execute};
use crate::domain::batch::Mail;

pub(super) const INSERT: &str = "INSERT INTO dos_integration.mail_queue
    (change_id, service_uid, service_name, creator_username, creator_first_name, creator_last_name, creator_email,
     changes, correlation_id, created_at, next_attempt_at)
    SELECT w.*, $10::timestamptz, $10::timestamptz
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
        AS w";

/// Queues the mails; `correlation_ids` are those of the batch's inputs, by index.
pub(super) async fn insert(
    tx: &Transaction<'_>,
    mails: &[Mail],
    correlation_ids: &[&str],
    now: DateTime<Utc>,
) -> Result<()> {
    if mails.is_empty() {
        return Ok(());
    }
    let column = |text: fn(&Mail) -> &str| mails.iter().map(|mail| without_nul(text(mail))).collect::<Vec<_>>();
    let emails: Vec<_> = mails.iter().map(|mail| mail.creator.email.as_deref().map(without_nul)).collect();
    let correlations: Vec<_> =
        mails.iter().map(|mail| correlation_ids.get(mail.input).copied().unwrap_or_default()).collect();
    let params: [&(dyn ToSql + Sync); 10] = [
        &column(|mail| &mail.change_id),
        &column(|mail| &mail.service_uid),
        &column(|mail| &mail.service_name),
        &column(|mail| &mail.creator.username),
        &column(|mail| &mail.creator.first_name),
        &column(|mail| &mail.creator.last_name),
        &emails,
        &column(|mail| &mail.changes),
        &correlations,
        &now,
    ];
    execute(tx, INSERT, &params).await?;
    Ok(())
}
