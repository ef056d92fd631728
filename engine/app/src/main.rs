//! The `sluice` program: an allocator and a call into the library; everything else is there.

/// Long-lived tables grow the process with the system's allocator; this one gives memory back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc when it starts. Pages that are not used any more go back to the system within a
/// second, by a thread of the allocator's own: with its default of ten a run would hold most of what
/// it ever used, with less it asks for them again and again. Blocks of up to a MiB, which pages of
/// files are made in, are kept by the thread that freed them.
#[expect(unsafe_code, reason = "an allocator is configured by a symbol, before any code runs")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_CONFIG: &[u8; 77] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,lg_tcache_max:20\0";

fn main() -> std::process::ExitCode {
    sluice::main()
}
