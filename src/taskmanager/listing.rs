//! Lists each task once, newest first, from servers that page in different ways.
//!
//! Servers that sort by id support `before`: the next page has the tasks before the last one. The published server has
//! only `limit` and `offset`, and sorts by the second of creation, so tasks of the same second may change places between
//! two answers. There, a page is cut after a complete second, and the next page overlaps it by a few tasks. They show
//! by how much tasks that were created or deleted meanwhile have moved the others.

use super::wire::TaskView;
use super::{Client, Error};
use crate::task::TaskId;

/// Size of a page, unless more tasks were created in one second.
const PAGE: usize = 500;
/// No server has a smaller maximum page size.
const MIN_PAGE: usize = 50;
/// How many tasks of a page are requested again with the next one.
const OVERLAP: usize = 20;
/// Number of pages without progress before listing fails.
const MAX_FUTILE_PAGES: usize = 12;

const OTHER_ORDER: &str = "it does not list them in the order of their creation";

/// Which tasks to list.
#[derive(Debug, Clone)]
pub struct TaskFilter {
    /// `pending`, `claimed`, `completed` or `failed`.
    pub status: Option<String>,
    /// The name of the type, case-sensitive; `%` matches any text, including none.
    pub type_pattern: Option<String>,
    /// Maximum number of tasks.
    pub limit: u32,
}

impl Default for TaskFilter {
    /// The newest 50, the default of servers as well.
    fn default() -> Self {
        Self { status: None, type_pattern: None, limit: 50 }
    }
}

impl TaskFilter {
    /// Returns the pattern to send. Servers use SQL LIKE, where `_` matches any character, `\` escapes, and case is
    /// ignored, so they may return too many tasks, which are filtered here.
    pub(super) fn like(&self) -> Option<String> {
        self.type_pattern.as_ref().map(|pattern| pattern.replace('\\', "%"))
    }

    fn matches(&self, task: &TaskView) -> bool {
        self.type_pattern.as_ref().is_none_or(|pattern| matches_pattern(pattern, &task.task_type))
    }
}

/// Whether `name` matches `pattern`, in which `%` matches any text.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('%');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A request for one page of the list.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageRequest {
    pub(super) limit: usize,
    pub(super) offset: usize,
    /// Only tasks with lower ids, if the server supports that.
    pub(super) before: Option<TaskId>,
}

/// The last listed tasks that were created in the same second.
struct Second {
    time: Option<String>,
    ids: Vec<TaskId>,
}

impl Second {
    /// Whether a task is already listed, or newer than all tasks still to come.
    fn precedes_rest(&self, task: &TaskView) -> bool {
        task.created_at > self.time || self.ids.contains(&task.id)
    }
}

/// A list of tasks, page by page.
pub struct TaskPages {
    client: Client,
    filter: TaskFilter,
    remaining: usize,
    /// Whether the server sorts by id; `None` if not known yet.
    by_id: Option<bool>,
    last: Option<TaskId>,
    second: Option<Second>,
    offset: usize,
    /// The length of a page that was shorter than requested.
    short_page_len: Option<usize>,
    ended: bool,
}

impl Client {
    /// Returns the tasks that match `filter`, newest first, each once, page by page.
    #[must_use]
    pub fn task_pages(&self, filter: TaskFilter) -> TaskPages {
        let remaining = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let client = self.clone();
        TaskPages {
            client,
            filter,
            remaining,
            by_id: None,
            last: None,
            second: None,
            offset: 0,
            short_page_len: None,
            ended: false,
        }
    }

    /// Returns the tasks that match `filter`, newest first, each once.
    pub fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskView>, Error> {
        let (mut pages, mut tasks) = (self.task_pages(filter.clone()), Vec::new());
        while let Some(page) = pages.next_page()? {
            tasks.extend(page);
        }
        Ok(tasks)
    }
}

impl TaskPages {
    /// Returns the next tasks, at least one; `None` at the end.
    pub fn next_page(&mut self) -> Result<Option<Vec<TaskView>>, Error> {
        while self.remaining > 0 && !self.ended {
            let last = if self.last.is_some() && self.is_by_id()? { self.last } else { None };
            let mut tasks = match last {
                Some(last) => self.older_than(last)?,
                None => self.next_seconds()?,
            };
            tasks.retain(|task| self.filter.matches(task));
            tasks.truncate(self.remaining);
            self.remaining -= tasks.len();
            if !tasks.is_empty() {
                return Ok(Some(tasks));
            }
        }
        Ok(None)
    }

    fn request(&self, limit: usize, offset: usize, before: Option<TaskId>) -> Result<Vec<TaskView>, Error> {
        self.client.list_part(&self.filter, PageRequest { limit, offset, before })
    }

    /// Whether the server supports `before`: then it returns no tasks before id 1.
    fn is_by_id(&mut self) -> Result<bool, Error> {
        if let Some(by_id) = self.by_id {
            return Ok(by_id);
        }
        let by_id = match self.request(1, 0, Some(TaskId(1))) {
            Ok(tasks) => tasks.is_empty(),
            Err(Error::Refused { .. }) => false,
            Err(error) => return Err(error),
        };
        self.by_id = Some(by_id);
        Ok(by_id)
    }

    /// Requests the tasks before the last listed one, from servers that sort by id.
    fn older_than(&mut self, last: TaskId) -> Result<Vec<TaskView>, Error> {
        let page = self.request(PAGE, 0, Some(last))?;
        if page.iter().any(|task| task.id >= last) {
            return Err(self.inexact("it listed some tasks twice"));
        }
        self.ended = page.len() < MIN_PAGE;
        self.last = page.iter().map(|task| task.id).min();
        Ok(page)
    }

    /// Requests all tasks of the next second, or of several, from servers that sort by time.
    fn next_seconds(&mut self) -> Result<Vec<TaskView>, Error> {
        let mut limit =
            if self.last.is_none() { self.remaining.saturating_add(1).clamp(MIN_PAGE + 1, PAGE) } else { PAGE };
        let (mut back, mut longest) = (PAGE, 0);
        for _ in 0..MAX_FUTILE_PAGES {
            let mut page = self.request(limit, self.offset, None)?;
            longest = longest.max(page.len());
            let Some(start) = self.first_new(&page) else {
                // Many tasks were deleted: the next ones may be before this page.
                self.offset = self.offset.saturating_sub(back);
                back *= 2;
                continue;
            };
            let is_sorted = page.is_sorted_by(|one, other| one.created_at >= other.created_at);
            if !is_sorted && self.second.is_some() {
                return Err(self.inexact(OTHER_ORDER));
            }
            let is_last = self.is_last_page(&page, limit)?;
            let end = if is_last { page.len() } else { start_of_last_second(&page) };
            if is_last || (is_sorted && end > start) {
                page.truncate(end);
                self.advance(&page, start, is_last);
                return Ok(sort_seconds(page.split_off(start), is_sorted));
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
            "it lists at most {longest} tasks at once, and more were created in one second, or tasks change faster than they can be listed"
        )))
    }

    /// Returns the index of the first new task of a page; `None` if the page does not overlap the listed tasks.
    fn first_new(&self, page: &[TaskView]) -> Option<usize> {
        let Some(second) = &self.second else { return Some(0) };
        if self.offset > 0 && !page.first().is_some_and(|first| second.precedes_rest(first)) {
            return None;
        }
        Some(page.iter().rposition(|task| second.precedes_rest(task)).map_or(0, |last| last + 1))
    }

    /// Whether a page is the last one. A page shorter than requested may be the server's maximum, but that is always the
    /// same number.
    fn is_last_page(&mut self, page: &[TaskView], limit: usize) -> Result<bool, Error> {
        let count = page.len();
        if count < limit && count >= MIN_PAGE && self.short_page_len.replace(count).is_none_or(|other| other == count) {
            return Ok(self.request(1, self.offset + count, None)?.is_empty());
        }
        Ok(count < limit)
    }

    /// Records that `page` is listed, with new tasks from `start`, and where the next page starts.
    fn advance(&mut self, page: &[TaskView], start: usize, is_last: bool) {
        self.ended = is_last;
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

/// Returns the index of the first task that was created in the same second as the last one.
fn start_of_last_second(page: &[TaskView]) -> usize {
    let Some(last) = page.last() else { return 0 };
    page.iter().rposition(|task| task.created_at != last.created_at).map_or(0, |at| at + 1)
}

/// Sorts tasks of the same second by id, highest first.
fn sort_seconds(mut tasks: Vec<TaskView>, is_sorted: bool) -> Vec<TaskView> {
    if is_sorted {
        tasks.sort_by(|one, other| (&other.created_at, other.id).cmp(&(&one.created_at, one.id)));
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::matches_pattern;

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
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }
}
