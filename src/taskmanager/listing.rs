//! Listing tasks such that each is there once, newest first, although servers page in different ways.
//!
//! Those that list by number, newest first, are asked for the tasks before the last one (`before`). The published one
//! knows only `limit` and `offset`, and sorts by the second of creation alone: of tasks that were created in the same
//! second, each answer may have others first, so a page that ends among them tells nothing of the next. There, what is
//! listed ends with a whole second, and the next page starts a few tasks before that end. It must show some of them again:
//! tasks that came or went meanwhile have moved the others, and by those it is known how far.

use super::wire::TaskView;
use super::{Client, Error};
use crate::task::TaskId;

/// Tasks that are asked for at once, unless more were created in one second.
const PAGE: usize = 500;
/// No server lists fewer at once if there are more.
const LEAST_PAGE: usize = 50;
/// Tasks that are asked for again, so that the next page is known to start before the first that is not listed yet.
const OVERLAP: usize = 20;
/// So often a page may be of no use before the list is given up.
const TRIES: usize = 12;

const OTHER_ORDER: &str = "it lists them in another order than that of their creation";

/// Which tasks to list.
#[derive(Debug, Clone)]
pub struct TaskFilter {
    /// `pending`, `claimed`, `completed` or `failed`.
    pub status: Option<String>,
    /// The name of their type, to the letter; `%` in it stands for any text, also none.
    pub type_pattern: Option<String>,
    /// At most so many.
    pub limit: u32,
}

impl Default for TaskFilter {
    /// The newest 50, as the servers' own default is.
    fn default() -> Self {
        Self { status: None, type_pattern: None, limit: 50 }
    }
}

impl TaskFilter {
    /// What to send for `type_pattern`: servers take SQL LIKE patterns, to which `_` is any character, `\` makes the next
    /// one plain, and case is nothing. They list what is wanted and more, which is left out here.
    pub(super) fn like(&self) -> Option<String> {
        self.type_pattern.as_ref().map(|pattern| pattern.replace('\\', "%"))
    }

    fn admits(&self, task: &TaskView) -> bool {
        self.type_pattern.as_ref().is_none_or(|pattern| is_like(pattern, &task.task_type))
    }
}

/// Whether a name is `pattern`, in which `%` stands for any text.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('%');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The part of a list that a server is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) limit: usize,
    pub(super) offset: usize,
    /// Only tasks with lower ids, where the server knows that.
    pub(super) before: Option<TaskId>,
}

/// The tasks listed last that were created in the same second.
struct Second {
    time: Option<String>,
    ids: Vec<TaskId>,
}

impl Second {
    /// Whether a task was listed, or is newer than all that is to come.
    fn is_past(&self, task: &TaskView) -> bool {
        task.created_at > self.time || self.ids.contains(&task.id)
    }
}

/// A list of tasks, page by page.
pub struct TaskPages {
    client: Client,
    filter: TaskFilter,
    /// How many are still wanted.
    left: usize,
    /// Whether the server lists by number; `None` where that has not mattered yet.
    by_id: Option<bool>,
    last: Option<TaskId>,
    second: Option<Second>,
    offset: usize,
    /// The length of a page that was shorter than was asked for.
    short: Option<usize>,
    ended: bool,
}

impl Client {
    /// The tasks that `filter` lets through, newest first, each of them once.
    #[must_use]
    pub fn task_pages(&self, filter: TaskFilter) -> TaskPages {
        let left = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let client = self.clone();
        TaskPages { client, filter, left, by_id: None, last: None, second: None, offset: 0, short: None, ended: false }
    }

    /// The same at once.
    pub fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskView>, Error> {
        let (mut pages, mut tasks) = (self.task_pages(filter.clone()), Vec::new());
        while let Some(page) = pages.next_page()? {
            tasks.extend(page);
        }
        Ok(tasks)
    }
}

impl TaskPages {
    /// The next tasks, at least one; `None` at the end.
    pub fn next_page(&mut self) -> Result<Option<Vec<TaskView>>, Error> {
        while self.left > 0 && !self.ended {
            let last = if self.last.is_some() && self.is_by_id()? { self.last } else { None };
            let mut tasks = match last {
                Some(last) => self.older_than(last)?,
                None => self.next_seconds()?,
            };
            tasks.retain(|task| self.filter.admits(task));
            tasks.truncate(self.left);
            self.left -= tasks.len();
            if !tasks.is_empty() {
                return Ok(Some(tasks));
            }
        }
        Ok(None)
    }

    fn ask(&self, limit: usize, offset: usize, before: Option<TaskId>) -> Result<Vec<TaskView>, Error> {
        self.client.list_part(&self.filter, Part { limit, offset, before })
    }

    /// Whether the server knows `before`: no task has an id below one.
    fn is_by_id(&mut self) -> Result<bool, Error> {
        if let Some(by_id) = self.by_id {
            return Ok(by_id);
        }
        let by_id = match self.ask(1, 0, Some(TaskId(1))) {
            Ok(tasks) => tasks.is_empty(),
            Err(Error::Refused { .. }) => false,
            Err(error) => return Err(error),
        };
        self.by_id = Some(by_id);
        Ok(by_id)
    }

    /// By number: the tasks before the last one that was listed.
    fn older_than(&mut self, last: TaskId) -> Result<Vec<TaskView>, Error> {
        let page = self.ask(PAGE, 0, Some(last))?;
        if page.iter().any(|task| task.id >= last) {
            return Err(self.inexact("it lists tasks again that were listed before"));
        }
        self.ended = page.len() < LEAST_PAGE;
        self.last = page.iter().map(|task| task.id).min();
        Ok(page)
    }

    /// By time: all tasks of the next second, or of several.
    fn next_seconds(&mut self) -> Result<Vec<TaskView>, Error> {
        let mut limit =
            if self.last.is_none() { self.left.saturating_add(1).clamp(LEAST_PAGE + 1, PAGE) } else { PAGE };
        let (mut back, mut longest) = (PAGE, 0);
        for _ in 0..TRIES {
            let mut page = self.ask(limit, self.offset, None)?;
            longest = longest.max(page.len());
            let Some(start) = self.first_new(&page) else {
                // Too many have gone: what is not listed yet may start before this page.
                self.offset = self.offset.saturating_sub(back);
                back *= 2;
                continue;
            };
            let is_sorted = page.is_sorted_by(|one, other| one.created_at >= other.created_at);
            if !is_sorted && self.second.is_some() {
                return Err(self.inexact(OTHER_ORDER));
            }
            let whole = self.is_whole(&page, limit)?;
            let end = if whole { page.len() } else { start_of_last_second(&page) };
            if whole || (is_sorted && end > start) {
                page.truncate(end);
                self.note(&page, start, whole);
                return Ok(in_order(page.split_off(start), is_sorted));
            }
            if self.last.is_none() && self.is_by_id()? {
                self.last = page.iter().map(|task| task.id).min();
                return Ok(page);
            }
            if !is_sorted {
                return Err(self.inexact(OTHER_ORDER));
            }
            limit = limit.saturating_mul(4);
        }
        Err(self.inexact(&format!(
            "of {longest} that it lists at once, none was created in another second, or they change faster than they are listed"
        )))
    }

    /// Where a page goes on from what is listed; `None` where it starts after that.
    fn first_new(&self, page: &[TaskView]) -> Option<usize> {
        let Some(second) = &self.second else { return Some(0) };
        if self.offset > 0 && !page.first().is_some_and(|first| second.is_past(first)) {
            return None;
        }
        Some(page.iter().rposition(|task| second.is_past(task)).map_or(0, |last| last + 1))
    }

    /// Whether there is nothing after a page. One that is shorter than was asked for may be all that a server lists at once,
    /// but that is always the same number.
    fn is_whole(&mut self, page: &[TaskView], limit: usize) -> Result<bool, Error> {
        let count = page.len();
        if count < limit && count >= LEAST_PAGE && self.short.replace(count).is_none_or(|other| other == count) {
            return Ok(self.ask(1, self.offset + count, None)?.is_empty());
        }
        Ok(count < limit)
    }

    /// Notes that all of `page` is listed, of which the tasks from `start` on are new, and where the next page starts.
    fn note(&mut self, page: &[TaskView], start: usize, whole: bool) {
        self.ended = whole;
        let Some(last) = page[start..].last() else { return };
        self.last = Some(last.id);
        let ids = page[start..].iter().filter(|task| task.created_at == last.created_at).map(|task| task.id);
        match &mut self.second {
            Some(second) if second.time == last.created_at => second.ids.extend(ids),
            second => *second = Some(Second { time: last.created_at.clone(), ids: ids.collect() }),
        }
        self.offset += page.len().saturating_sub(OVERLAP);
    }

    fn inexact(&self, reason: &str) -> Error {
        Error::Inexact { url: self.client.shown_url().to_owned(), reason: reason.to_owned() }
    }
}

/// Where the tasks begin that were created in the same second as the last.
fn start_of_last_second(page: &[TaskView]) -> usize {
    let Some(last) = page.last() else { return 0 };
    page.iter().rposition(|task| task.created_at != last.created_at).map_or(0, |at| at + 1)
}

/// Of the same second, the highest id first.
fn in_order(mut tasks: Vec<TaskView>, is_sorted: bool) -> Vec<TaskView> {
    if is_sorted {
        tasks.sort_by(|one, other| (&other.created_at, other.id).cmp(&(&one.created_at, one.id)));
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn only_the_percent_sign_is_a_pattern() {
        for (pattern, name, expected) in [
            ("send_mail", "send_mail", true),
            ("send_mail", "send.mail", false),
            ("send_mail", "Send_Mail", false),
            ("send_mail", "send_mail2", false),
            ("send_%", "send_mail", true),
            ("send_%", "send.mail", false),
            ("%mail", "send_mail", true),
            ("%mail%", "mail", true),
            ("%", "", true),
            ("%%", "a", true),
            ("", "a", false),
            ("", "", true),
            ("a%a", "a", false),
            ("a%a", "aa", true),
            ("a%b%c", "a-b-b-c", true),
            ("a%b%c", "acb", false),
            ("a%bc%c", "abc", false),
            ("a*", "a*", true),
            ("a*", "ab", false),
            (r"a\b", r"a\b", true),
            (r"a\b", "ab", false),
            (r"a\%", r"a\b", true),
            (r"a\%", "a%", false),
            ("ž%", "žluťoučký", true),
        ] {
            assert_eq!(is_like(pattern, name), expected, "{pattern} {name}");
        }
    }
}
