//! Lines of a file or of stdin, plain or gzip, one at a time.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::read::MultiGzDecoder;

/// Longest line; Kafka takes no record of this size.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A stream of lines.
pub struct Source {
    lines: BufReader<Box<dyn Read + Send>>,
    size: Option<u64>,
    position: Arc<AtomicU64>,
    line: Vec<u8>,
    is_at_end: bool,
}

impl Source {
    /// Opens a file; `-` is stdin.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Self::new(io::stdin(), None);
        }
        let file = File::open(path)?;
        let facts = file.metadata()?;
        if facts.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        Self::new(file, facts.is_file().then_some(facts.len()))
    }

    /// Reads from anything; `size` is told where it is known.
    pub fn new(reader: impl Read + Send + 'static, size: Option<u64>) -> io::Result<Self> {
        let position = Arc::new(AtomicU64::new(0));
        let mut reader = Counted { reader, position: Arc::clone(&position) };
        let mut magic = Vec::new();
        reader.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic)?;
        let is_gzip = magic == GZIP_MAGIC;
        let whole = BufReader::new(Cursor::new(magic).chain(reader));
        let plain: Box<dyn Read + Send> = if is_gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        Ok(Self { lines: BufReader::new(plain), size, position, line: Vec::new(), is_at_end: false })
    }

    /// Bytes of the file, where it is one.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Bytes of the file that were read.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// The next line without its end; a reading error ends the stream after it was told.
    pub fn next_line(&mut self) -> Option<Result<&[u8], String>> {
        if self.is_at_end {
            return None;
        }
        match self.read_line() {
            Ok(0) => None,
            Ok(_) if self.line.len() as u64 > LINE_BYTES_MAX => {
                Some(self.skip_rest().and(Err(format!("is longer than {LINE_BYTES_MAX} bytes"))))
            }
            Ok(_) => Some(Ok(&self.line)),
            Err(error) => Some(Err(self.end_with(&error))),
        }
    }

    fn read_line(&mut self) -> io::Result<usize> {
        self.line.clear();
        self.lines.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut self.line)
    }

    fn skip_rest(&mut self) -> Result<(), String> {
        while self.line.last() != Some(&b'\n') {
            match self.read_line() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(self.end_with(&error)),
            }
        }
        Ok(())
    }

    fn end_with(&mut self, error: &io::Error) -> String {
        self.is_at_end = true;
        format!("cannot be read: {error}")
    }
}

/// Counts what is read, for the progress bar.
struct Counted<R> {
    reader: R,
    position: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.position.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn lines(bytes: Vec<u8>) -> Vec<Result<String, String>> {
        let mut source = Source::new(Cursor::new(bytes), None).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = source.next_line() {
            lines.push(line.map(|line| String::from_utf8_lossy(line).trim_end().to_owned()));
        }
        lines
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzip_give_the_same_lines() {
        let wanted = [Ok("a".to_owned()), Ok(String::new()), Ok("b".to_owned())];
        assert_eq!(lines(b"a\n\r\nb".to_vec()), wanted);
        let mut joined = gzip(b"a\n\r\n");
        joined.extend(gzip(b"b\n"));
        assert_eq!(lines(joined), wanted);
        assert_eq!(lines(Vec::new()), []);
        assert_eq!(lines(vec![0x1f]).len(), 1);
    }

    #[test]
    fn a_broken_file_is_told_once() {
        let mut broken = gzip(&b"line\n".repeat(10_000));
        broken.truncate(broken.len() - 9);
        let lines = lines(broken);
        assert!(lines.last().unwrap().as_ref().unwrap_err().contains("cannot be read"));
        assert_eq!(lines.iter().filter(|line| line.is_err()).count(), 1);
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let mut bytes = vec![b'x'; 3 * usize::try_from(LINE_BYTES_MAX).unwrap()];
        bytes.extend_from_slice(b"\nnext\n");
        let lines = lines(bytes);
        assert!(lines[0].as_ref().unwrap_err().contains("longer"));
        assert_eq!(lines[1..], [Ok("next".to_owned())]);
    }

    #[test]
    fn a_missing_file_and_a_directory_are_refused() {
        assert!(Source::open(Path::new("/nowhere/file")).is_err());
        assert!(Source::open(&std::env::temp_dir()).is_err());
    }
}
