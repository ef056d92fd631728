//! `.proto` text to descriptors.
//!
//! In: the text of a file, and of those it imports. Out: its descriptor, or why it has none.
//! Google's own files are always there to be imported.

use std::collections::HashMap;
use std::path::Path;

use prost_reflect::FileDescriptor;
use protox::Compiler;
use protox::file::{
    ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver,
};

use crate::message::config::Proto;

/// What a text without a file is called.
const NAME: &str = "message.proto";

/// Files by the names that imports use.
struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The file with this text, which imports those.
pub(super) fn of_texts(text: &str, imports: &[(String, String)]) -> Result<FileDescriptor, String> {
    let mut texts: HashMap<String, String> = imports.iter().cloned().collect();
    texts.insert(NAME.into(), text.into());
    compile(Texts(texts), NAME)
}

/// The file that the settings name.
pub(super) fn of_config(proto: &Proto) -> Result<FileDescriptor, String> {
    match (&proto.file, &proto.text) {
        (Some(file), None) => {
            let file = Path::new(file);
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let folder = file.parent().unwrap_or(Path::new(""));
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            compile(IncludeFileResolver::new(folder.to_path_buf()), name)
        }
        (None, Some(text)) => of_texts(text, &[]),
        _ => Err("give one of file and text".into()),
    }
}

fn compile(files: impl FileResolver + 'static, name: &str) -> Result<FileDescriptor, String> {
    let mut chain = ChainFileResolver::new();
    chain.add(files);
    chain.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(chain);
    compiler.include_imports(true);
    compiler.open_file(name).map_err(|e| format!("it cannot be compiled: {e}"))?;
    let pool = compiler.descriptor_pool();
    pool.get_file_by_name(name).ok_or_else(|| "it cannot be compiled".to_string())
}
