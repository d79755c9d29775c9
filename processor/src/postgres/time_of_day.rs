//! `time` columns as seconds since midnight. The driver's own type cannot hold 24:00, which DoS does hold.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Seconds since midnight, 0 to 86,400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeOfDay(pub(super) u32);

impl<'a> FromSql<'a> for TimeOfDay {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(u32::try_from(micros / MICROS_PER_SECOND)?))
    }

    accepts!(TIME);
}

impl ToSql for TimeOfDay {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let micros = i64::from(self.0) * MICROS_PER_SECOND;
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TIME);
    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_day_goes_there_and_back() {
        for seconds in [0, 1, 32_400, 86_399, 86_400] {
            let mut raw = BytesMut::new();
            TimeOfDay(seconds).to_sql(&Type::TIME, &mut raw).expect("a time is written");
            assert_eq!(TimeOfDay::from_sql(&Type::TIME, &raw).expect("a time is read"), TimeOfDay(seconds));
        }
    }
}
