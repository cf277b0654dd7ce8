//! Running a statement: its rows, notices and errors, and the end that Ctrl-C makes.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use neuroql_pg::{Client, ClientError, Event};
use tokio::task::block_in_place;

use crate::shell::input::{Input, Line};
use crate::shell::layout::Layout;
use crate::shell::report::report_text;
use crate::shell::screen::{Output, Screen};
use crate::shell::{APPLICATION, Done, Shell, Stop};

/// Time between updates of the line that tells how long a statement takes.
const TICK: Duration = Duration::from_millis(200);

/// Tags that are shown even below rows, which RETURNING gives.
const CHANGES: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

/// Bytes of a COPY that are sent at a time.
const COPY_PIECE: usize = 64 << 10;

/// Outcome of a query.
#[derive(Default)]
struct Outcome {
    failed: bool,
    /// The reason why the session has ended.
    ended: Option<String>,
    /// The error that keeps results from being written, after which they are left out.
    unwritten: Option<io::Error>,
    names_changed: bool,
}

impl Shell {
    /// Runs a statement of `input` and shows what comes of it.
    pub(crate) async fn statement(&mut self, sql: &str, input: &mut Input) -> Result<Done, Stop> {
        let started = Instant::now();
        self.interrupts.mark_unchanged();
        match self.client.query(sql).await {
            Ok(()) => {}
            Err(ClientError::Zero) => return self.refuse(input, &ClientError::Zero.to_string()),
            Err(error) => return Err(error.into()),
        }
        let outcome = self.follow(sql, input).await?;
        self.names_changed |= outcome.names_changed;
        if let Some(reason) = outcome.ended {
            if !self.is_interactive {
                return Err(ClientError::Ended(Some(reason)).into());
            }
            self.client = self.local.connect(APPLICATION).await?;
            self.say("The session has ended; this is a new one.\n")?;
        }
        match outcome.unwritten {
            // Somebody has closed the pager and goes on.
            Some(error) if error.kind() == ErrorKind::BrokenPipe && self.is_interactive => return Ok(Done::Good),
            Some(error) => return Err(error.into()),
            None => {}
        }
        if self.timing {
            self.print(&time_text(started.elapsed()))?;
        }
        if outcome.failed {
            input.forget();
            return Ok(Done::Failed);
        }
        Ok(Done::Good)
    }

    /// Shows what the session answers, until it waits for the next query.
    async fn follow(&mut self, sql: &str, input: &mut Input) -> Result<Outcome, Stop> {
        let place = input.place();
        let Self { client, output, style, interrupts, .. } = self;
        let canceller = client.canceller();
        let is_file = matches!(output, Output::File(_));
        let mut screen = Screen::new(output, self.size.filter(|_| self.pager));
        let mut outcome = Outcome::default();
        let mut layout: Option<Box<dyn Layout>> = None;
        let mut rows = 0;
        let mut is_copied_out = false;
        let mut ticks = tokio::time::interval(TICK);
        loop {
            let event = tokio::select! {
                Ok(()) = interrupts.changed() => {
                    canceller.cancel();
                    screen.say("Cancel request sent\n")?;
                    continue;
                }
                event = client.next() => event,
                _ = ticks.tick() => {
                    if let Err(error) = screen.tick(rows) {
                        canceller.cancel();
                        outcome.unwritten.get_or_insert(error);
                    }
                    continue;
                }
            };
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(ClientError::Ended(reason)) => {
                    outcome.ended = Some(reason.unwrap_or_default());
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let written = match event {
                Event::CopyIn => {
                    send_rows(client, input).await?;
                    Ok(())
                }
                Event::Error(report) => {
                    outcome.failed = true;
                    layout = None;
                    screen.say(&format!("{place}{}", report_text(&report, sql)))
                }
                Event::Notice(report) => {
                    screen.note(&report.message);
                    screen.say(&format!("{place}{}", report_text(&report, sql)))
                }
                _ if outcome.unwritten.is_some() => Ok(()),
                Event::Columns(columns) => style.layout(columns, None, &mut screen).map(|begun| layout = Some(begun)),
                Event::Row(row) => {
                    rows += 1;
                    layout.as_mut().map_or(Ok(()), |layout| layout.row(row, &mut screen))
                }
                Event::CopyOut => {
                    is_copied_out = true;
                    Ok(())
                }
                Event::CopyData(data) => screen.write_all(&data),
                Event::Complete(tag) => {
                    outcome.names_changed |= ["CREATE", "DROP", "ALTER"].iter().any(|verb| tag.starts_with(verb));
                    let rows = layout.take();
                    let has_rows = rows.is_some();
                    let ended = rows.map_or(Ok(()), |rows| rows.end(&mut screen));
                    // The tag would be taken for a line of the copy.
                    let is_hidden = self.quiet || std::mem::take(&mut is_copied_out) && !is_file;
                    let is_told = !has_rows || CHANGES.iter().any(|verb| tag.starts_with(verb));
                    ended.and_then(|()| if is_told && !is_hidden { writeln!(screen, "{tag}") } else { Ok(()) })
                }
                Event::Empty => Ok(()),
            };
            if let Err(error) = written {
                canceller.cancel();
                outcome.unwritten.get_or_insert(error);
            }
        }
        if let Err(error) = screen.finish() {
            outcome.unwritten.get_or_insert(error);
        }
        Ok(outcome)
    }
}

/// Sends the rows of a COPY: the next lines, up to one with a backslash and a period.
async fn send_rows(client: &mut Client, input: &mut Input) -> Result<(), Stop> {
    if input.is_person() {
        let help = "Enter data to be copied followed by a newline.\nEnd with a backslash and a period on a line by \
                    itself, or with Ctrl-D.\n";
        io::stderr().write_all(help.as_bytes())?;
    }
    let mut piece = BytesMut::new();
    loop {
        match input.line(|editor| block_in_place(|| editor.read_data(">> ")))? {
            Line::Text(line) if line.trim_end_matches(['\r', '\n']) != "\\." => {
                piece.extend_from_slice(line.as_bytes());
                if piece.len() >= COPY_PIECE {
                    client.copy(piece.split().freeze()).await?;
                }
            }
            Line::Text(_) | Line::End => break,
            Line::Interrupted => return Ok(client.copy_fail("canceled by user").await?),
        }
    }
    if !piece.is_empty() {
        client.copy(piece.freeze()).await?;
    }
    Ok(client.copy_done().await?)
}

/// Returns what `\timing` prints, as psql does.
fn time_text(elapsed: Duration) -> String {
    let milliseconds = elapsed.as_secs_f64() * 1e3;
    if milliseconds < 1e3 {
        return format!("Time: {milliseconds:.3} ms\n");
    }
    let (minutes, seconds) = (elapsed.as_secs() / 60, elapsed.as_secs_f64() % 60.0);
    let clock = match minutes {
        0..60 => format!("{minutes:02}:{seconds:06.3}"),
        _ => format!("{:02}:{:02}:{seconds:06.3}", minutes / 60, minutes % 60),
    };
    format!("Time: {milliseconds:.3} ms ({clock})\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time_text(Duration::from_micros(12_345)), "Time: 12.345 ms\n");
        assert_eq!(time_text(Duration::from_millis(61_500)), "Time: 61500.000 ms (01:01.500)\n");
        assert_eq!(time_text(Duration::from_secs(3_725)), "Time: 3725000.000 ms (01:02:05.000)\n");
    }
}
