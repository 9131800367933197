//! The ids of events in the journal. The id of an event consists of the number of its run and of its `seq`, so the table
//! of events needs no other index: the events of a run are a range of ids, and a new event changes only the end of it.

use rusqlite::{Connection, Error, OptionalExtension as _};

/// The number of ids for the events of a run.
const IDS_PER_RUN: i64 = 1 << 32;

/// The ids that the events of a run can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventIds {
    /// The id before the first event, whose `seq` is 1.
    base: i64,
}

impl EventIds {
    /// The ids of a run; `None` if the journal contains no event of it.
    pub(super) fn find(connection: &Connection, run: &str) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached("SELECT number FROM run_numbers WHERE run = ?1")?;
        let number = statement.query_row([run], |row| row.get(0)).optional()?;
        number.map(Self::from_number).transpose()
    }

    /// The ids of a run. Gives the run a number if it has none.
    pub(super) fn find_or_create(connection: &Connection, run: &str) -> rusqlite::Result<Self> {
        if let Some(ids) = Self::find(connection, run)? {
            return Ok(ids);
        }
        connection.execute("INSERT INTO run_numbers (run) VALUES (?1)", [run])?;
        Self::from_number(connection.last_insert_rowid())
    }

    fn from_number(number: i64) -> rusqlite::Result<Self> {
        // A journal may come from another machine, with any number.
        let base = number.checked_mul(IDS_PER_RUN).filter(|base| *base <= i64::MAX - IDS_PER_RUN);
        base.map(|base| Self { base }).ok_or(Error::IntegralValueOutOfRange(0, number))
    }

    /// The id before the first event of the run. The id of an event is the sum of this and its `seq`.
    pub(super) fn base(self) -> i64 {
        self.base
    }

    /// The id of the event with this `seq`, or the nearest id of the run.
    pub(super) fn clamped(self, seq: i64) -> i64 {
        self.base + seq.clamp(0, IDS_PER_RUN - 1)
    }

    /// The id of a new event.
    pub(super) fn id(self, seq: i64) -> rusqlite::Result<i64> {
        if (1..IDS_PER_RUN).contains(&seq) { Ok(self.base + seq) } else { Err(Error::IntegralValueOutOfRange(0, seq)) }
    }

    /// The last id of the run.
    pub(super) fn last(self) -> i64 {
        self.clamped(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_two_runs_do_not_overlap() {
        let [first, second] = [1, 2].map(|number| EventIds::from_number(number).unwrap());
        assert!(first.last() <= second.base() && second.base() < second.id(1).unwrap());
        assert_eq!(first.id(7).unwrap(), first.clamped(7));
        assert_eq!((first.clamped(-1), first.clamped(i64::MAX)), (first.base(), first.last()));
        assert!(first.id(0).is_err() && first.id(IDS_PER_RUN).is_err());
        assert!(EventIds::from_number(i64::MAX).is_err() && EventIds::from_number(i64::MAX >> 31).is_err());
    }
}
