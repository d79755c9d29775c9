//! The database side on a real server.

#[cfg(test)]
mod database;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod tables;
