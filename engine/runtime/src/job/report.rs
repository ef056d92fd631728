//! Problems of one file, told by JSON pointer.
//!
//! In: a pointer into the file's tree, a message, a hint. Out: [`Problems`] with lines and columns,
//! in the project's file where it lent the value.

use sluice_core::Problems;

use super::read::Document;

/// Where a reading or a check puts what it finds.
pub(crate) struct Report<'a> {
    /// The file that is looked at.
    pub(crate) document: &'a Document,
    problems: &'a mut Problems,
}

impl<'a> Report<'a> {
    /// A report about `document` that adds to `problems`.
    pub(crate) fn new(document: &'a Document, problems: &'a mut Problems) -> Self {
        Self { document, problems }
    }

    /// The list itself, for those that bring their own file and place.
    pub(crate) fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// Something is wrong with the value at `pointer`.
    pub(crate) fn at(
        &mut self,
        pointer: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (file, span) = self.document.place(pointer);
        self.problems.push(file, span, message.into(), Some(hint.into()));
    }

    /// Something is wrong with the key of the value at `pointer`.
    pub(crate) fn at_key(
        &mut self,
        pointer: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (file, span) = self.document.key_place(pointer);
        self.problems.push(file, span, message.into(), Some(hint.into()));
    }
}
