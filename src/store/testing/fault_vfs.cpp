#include "store/testing/fault_vfs.h"

#include <sqlite3.h>

#include <new>

namespace hearth::store::testing {
namespace {

struct Plan {
    Fault kind = Fault::disk_full;
    std::uint64_t first = 0, count = 0;  // first 0: nothing fails
    std::uint64_t seen = 0, failed = 0;
};
Plan plan;

bool fails() {
    ++plan.seen;
    bool const hit = plan.first != 0 && plan.seen >= plan.first && plan.seen - plan.first < plan.count;
    if (hit) ++plan.failed;
    return hit;
}

int fault(int io_error) { return plan.kind == Fault::disk_full ? SQLITE_FULL : io_error; }

sqlite3_vfs* system_vfs() { return sqlite3_vfs_find("unix"); }

// The system's file lies behind ours in the memory that SQLite gives.
struct File {
    sqlite3_file base;
    sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};
sqlite3_file* real(sqlite3_file* file) { return reinterpret_cast<File*>(file)->real(); }
sqlite3_io_methods const* to(sqlite3_file* file) { return real(file)->pMethods; }

int file_close(sqlite3_file* f) { return to(f)->xClose(real(f)); }
int file_read(sqlite3_file* f, void* out, int size, sqlite3_int64 at) { return to(f)->xRead(real(f), out, size, at); }
int file_write(sqlite3_file* f, void const* data, int size, sqlite3_int64 at) {
    if (!fails()) return to(f)->xWrite(real(f), data, size, at);
    // A disk that fills up takes a part.
    if (size > 1) to(f)->xWrite(real(f), data, size / 2, at);
    return fault(SQLITE_IOERR_WRITE);
}
int file_truncate(sqlite3_file* f, sqlite3_int64 size) {
    return fails() ? fault(SQLITE_IOERR_TRUNCATE) : to(f)->xTruncate(real(f), size);
}
int file_sync(sqlite3_file* f, int flags) { return fails() ? fault(SQLITE_IOERR_FSYNC) : to(f)->xSync(real(f), flags); }
int file_size(sqlite3_file* f, sqlite3_int64* out) { return to(f)->xFileSize(real(f), out); }
int file_lock(sqlite3_file* f, int level) { return to(f)->xLock(real(f), level); }
int file_unlock(sqlite3_file* f, int level) { return to(f)->xUnlock(real(f), level); }
int file_reserved(sqlite3_file* f, int* out) { return to(f)->xCheckReservedLock(real(f), out); }
int file_control(sqlite3_file* f, int op, void* argument) { return to(f)->xFileControl(real(f), op, argument); }
int file_sector(sqlite3_file* f) { return to(f)->xSectorSize(real(f)); }
int file_traits(sqlite3_file* f) { return to(f)->xDeviceCharacteristics(real(f)); }
int file_shm_map(sqlite3_file* f, int region, int size, int extend, void volatile** out) {
    if (extend != 0 && fails()) return fault(SQLITE_IOERR_SHMSIZE);
    return to(f)->xShmMap(real(f), region, size, extend, out);
}
int file_shm_lock(sqlite3_file* f, int offset, int count, int flags) {
    return to(f)->xShmLock(real(f), offset, count, flags);
}
void file_shm_barrier(sqlite3_file* f) { to(f)->xShmBarrier(real(f)); }
int file_shm_unmap(sqlite3_file* f, int remove) { return to(f)->xShmUnmap(real(f), remove); }

sqlite3_io_methods const kMethods{
    2,           file_close,   file_read,     file_write,       file_truncate,  file_sync,
    file_size,   file_lock,    file_unlock,   file_reserved,    file_control,   file_sector,
    file_traits, file_shm_map, file_shm_lock, file_shm_barrier, file_shm_unmap, nullptr,
    nullptr};

int vfs_open(sqlite3_vfs*, char const* path, sqlite3_file* f, int flags, int* out) {
    auto* const file = new (f) File{};
    int const result = system_vfs()->xOpen(system_vfs(), path, file->real(), flags, out);
    file->base.pMethods = file->real()->pMethods == nullptr ? nullptr : &kMethods;
    return result;
}

sqlite3_vfs make_vfs() {
    sqlite3_vfs vfs = *system_vfs();
    vfs.szOsFile = static_cast<int>(sizeof(File)) + system_vfs()->szOsFile;
    vfs.zName = "hearth-fault";
    vfs.pNext = nullptr;
    vfs.xOpen = vfs_open;
    return vfs;
}

sqlite3_vfs& instance() {
    sqlite3_initialize();
    static sqlite3_vfs vfs = make_vfs();
    return vfs;
}

}  // namespace

FaultVfs::FaultVfs() {
    plan = {};
    sqlite3_vfs_register(&instance(), 0);
}
FaultVfs::~FaultVfs() { sqlite3_vfs_unregister(&instance()); }

std::string FaultVfs::name() { return instance().zName; }

void FaultVfs::fail(Fault kind, std::uint64_t first, std::uint64_t count) { plan = {kind, first, count, 0, 0}; }
void FaultVfs::heal() { plan.first = 0; }
std::uint64_t FaultVfs::failed() const { return plan.failed; }

}  // namespace hearth::store::testing
