#include "store/database.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <list>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "store/writer_lock.h"

namespace hearth::store {

// HEARTH_SQLITE_SOURCE may be any folder, and the header found another one's.
static_assert(SQLITE_VERSION_NUMBER >= 3051003,
              "SQLite up to 3.51.2 can corrupt a database when its write-ahead log is reset");

namespace {

constexpr mode_t kFolderMode = 0700;
constexpr std::size_t kReportedProblems = 5;  // of a damaged file, in one message

struct Close {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
};
struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Connection = std::unique_ptr<sqlite3, Close>;
using Prepared = std::unique_ptr<sqlite3_stmt, Finalize>;

Code code_of(int result) {
    switch (result & 0xff) {
        case SQLITE_FULL:
        case SQLITE_IOERR:
        case SQLITE_CANTOPEN:
        case SQLITE_READONLY:
        case SQLITE_PERM: return Code::io;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB: return Code::corrupt;
        case SQLITE_BUSY:
        case SQLITE_LOCKED: return Code::unavailable;
        case SQLITE_CONSTRAINT: return Code::invalid_argument;
        case SQLITE_TOOBIG: return Code::too_large;
        default: return Code::internal;
    }
}

Error error_of(sqlite3* connection, int result, std::string_view what, std::string const& path) {
    std::string why = connection != nullptr ? sqlite3_errmsg(connection) : sqlite3_errstr(result);
    if ((result & 0xff) == SQLITE_TOOBIG) why += fmt::format(" (limit: {} bytes)", kValueBytesMax);
    int const system = connection != nullptr ? sqlite3_system_errno(connection) : 0;
    if (code_of(result) == Code::io && system != 0) why += fmt::format(" ({})", std::strerror(system));
    return {code_of(result), fmt::format("'{}': cannot {}: {}", path, what, why), path};
}

Status make_folder_of(std::string const& path) {
    for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
        auto const part = path.substr(0, at);
        if (::mkdir(part.c_str(), kFolderMode) != 0 && errno != EEXIST)
            return Error(Code::io, fmt::format("cannot make the folder '{}': {}", part, std::strerror(errno)), path);
    }
    return ok();
}

}  // namespace

struct Database::Impl {
    // In the order in which they must be taken down, last first.
    std::unique_ptr<WriterLock> lock;
    Options options;
    Connection connection;
    struct Idle {
        std::string sql;
        Prepared statement;
    };
    std::list<Idle> idle;  // used last first
    bool in_transaction = false;

    [[nodiscard]] Error error(int result, std::string_view what) const {
        return error_of(connection.get(), result, what, options.path);
    }
    [[nodiscard]] Status connect();
    [[nodiscard]] Status execute(char const* sql, std::string_view what) const;
    [[nodiscard]] Result<std::int64_t> pragma(std::string_view name);
    [[nodiscard]] Status accept();
    [[nodiscard]] Status check_pages(char const* sql);
    [[nodiscard]] Status configure() const;
    [[nodiscard]] Status migrate();
    [[nodiscard]] Result<Prepared> prepare(std::string_view sql);
    [[nodiscard]] Result<Prepared> bound(std::string_view sql, std::initializer_list<Value> values);
    void keep(std::string sql, Prepared statement);
    [[nodiscard]] Status commit() const;
    void roll_back() const;
};

struct Rows::Impl {
    Database::Impl* database = nullptr;
    std::string sql;
    Prepared statement;

    ~Impl() { database->keep(std::move(sql), std::move(statement)); }
};

// --- opening -----------------------------------------------------------------

Status Database::Impl::connect() {
    int const mode =
        options.mode == Options::Mode::read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    sqlite3* opened = nullptr;
    int const result =
        sqlite3_open_v2(options.path.c_str(), &opened, mode | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                        options.vfs.empty() ? nullptr : options.vfs.c_str());
    connection.reset(opened);
    if (result != SQLITE_OK) return error(result, "open the database");
    sqlite3_busy_timeout(opened, static_cast<int>(options.busy_wait.count()));
    sqlite3_limit(opened, SQLITE_LIMIT_LENGTH, static_cast<int>(kValueBytesMax));
    for (int const option : {SQLITE_DBCONFIG_DEFENSIVE, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE})
        sqlite3_db_config(opened, option, 1, nullptr);
    return ok();
}

Status Database::Impl::execute(char const* sql, std::string_view what) const {
    int const result = sqlite3_exec(connection.get(), sql, nullptr, nullptr, nullptr);
    return result == SQLITE_OK ? ok() : Status(error(result, what));
}

Result<std::int64_t> Database::Impl::pragma(std::string_view name) {
    HEARTH_TRY(auto const statement, prepare(fmt::format("PRAGMA {}", name)));
    int const result = sqlite3_step(statement.get());
    if (result != SQLITE_ROW) return error(result, fmt::format("read {}", name));
    return sqlite3_column_int64(statement.get(), 0);
}

// Whether this file is ours to use; nothing of it is changed before that is known.
Status Database::Impl::accept() {
    HEARTH_TRY(auto const id, pragma("application_id"));
    HEARTH_TRY(auto const version, pragma("user_version"));
    HEARTH_TRY(auto const schema, pragma("schema_version"));
    bool const fresh = id == 0 && version == 0 && schema == 0;
    if (!fresh && id != options.application_id) {
        return Error(Code::corrupt,
                     fmt::format("'{}' is a database of something else (application id {}, not {}); it is left alone",
                                 options.path, id, options.application_id),
                     options.path);
    }
    auto const known = static_cast<std::int64_t>(options.migrations.size());
    if (version > known) {
        return Error(
            Code::unsupported,
            fmt::format("'{}' has schema {}, this Hearth knows up to {}: it was written by a newer version; use "
                        "that one. Nothing was changed",
                        options.path, version, known),
            options.path);
    }
    if (options.mode == Options::Mode::read_only && version < known) {
        return Error(Code::unavailable,
                     fmt::format("'{}' has schema {} and is brought to {} when it is next written", options.path,
                                 version, known),
                     options.path);
    }
    return ok();
}

Status Database::Impl::check_pages(char const* sql) {
    HEARTH_TRY(auto const statement, prepare(sql));
    std::string problems;
    int result = SQLITE_OK;
    for (std::size_t i = 0; i < kReportedProblems && (result = sqlite3_step(statement.get())) == SQLITE_ROW; ++i) {
        auto const* const text = reinterpret_cast<char const*>(sqlite3_column_text(statement.get(), 0));
        std::string_view const line = text == nullptr ? "" : text;
        if (line != "ok") problems += fmt::format("{}{}", problems.empty() ? "" : "; ", line);
    }
    if (result != SQLITE_ROW && result != SQLITE_DONE) return error(result, "check the file");
    if (problems.empty()) return ok();
    return Error(Code::corrupt, fmt::format("'{}' is damaged: {}", options.path, problems), options.path);
}

Status Database::Impl::configure() const {
    if (options.mode == Options::Mode::read_only) return execute("PRAGMA query_only=ON", "make it read-only");
    HEARTH_CHECK(execute("PRAGMA journal_mode=WAL", "switch to a write-ahead log"));
    // FULL: in a write-ahead log, NORMAL may lose commits at a power cut.
    HEARTH_CHECK(execute("PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA journal_size_limit=16777216",
                         "set its options"));
    sqlite3_db_config(connection.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, nullptr);
    return ok();
}

Status Database::Impl::migrate() {
    if (options.mode == Options::Mode::read_only) return ok();
    HEARTH_TRY(auto const version, pragma("user_version"));
    for (auto number = static_cast<std::size_t>(version); number < options.migrations.size(); ++number) {
        auto const& step = options.migrations[number];
        auto const what = fmt::format("bring its schema to {} ({})", number + 1, step.what);
        auto const marks =
            fmt::format("PRAGMA application_id={}; PRAGMA user_version={}", options.application_id, number + 1);
        HEARTH_CHECK(execute("BEGIN IMMEDIATE", what));
        auto done = execute(step.sql, what);
        if (done) done = execute(marks.c_str(), what);
        if (done) done = commit();
        if (!done) {
            roll_back();
            return done;
        }
    }
    return ok();
}

Result<std::unique_ptr<Database>> Database::open(Options options) {
    HEARTH_ASSERT(options.application_id != 0 && options.application_id <= INT32_MAX, "every module has its own id");
    auto impl = std::make_unique<Impl>();
    impl->options = std::move(options);
    if (impl->options.mode == Options::Mode::read_write) {
        HEARTH_CHECK(make_folder_of(impl->options.path));
        HEARTH_TRY(impl->lock, WriterLock::take(impl->options.path));
    }
    HEARTH_CHECK(impl->connect());
    HEARTH_CHECK(impl->accept());
    HEARTH_CHECK(impl->check_pages("PRAGMA quick_check"));
    HEARTH_CHECK(impl->configure());
    HEARTH_CHECK(impl->migrate());
    return std::unique_ptr<Database>(new Database(std::move(impl)));  // NOLINT(modernize-make-unique): private
}

Database::Database(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Database::~Database() = default;

// --- statements --------------------------------------------------------------

Result<Prepared> Database::Impl::prepare(std::string_view sql) {
    for (auto it = idle.begin(); it != idle.end(); ++it) {
        if (it->sql != sql) continue;
        auto statement = std::move(it->statement);
        idle.erase(it);
        return statement;
    }
    sqlite3_stmt* statement = nullptr;
    int const result = sqlite3_prepare_v3(connection.get(), sql.data(), static_cast<int>(sql.size()),
                                          SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    Prepared prepared(statement);
    if (result != SQLITE_OK) return error(result, fmt::format("prepare \"{}\"", sql));
    return prepared;
}

Result<Prepared> Database::Impl::bound(std::string_view sql, std::initializer_list<Value> values) {
    HEARTH_TRY(auto statement, prepare(sql));
    auto* const raw = statement.get();
    HEARTH_ASSERT(sqlite3_bind_parameter_count(raw) == static_cast<int>(values.size()), "one value for each ?");
    int at = 0, result = SQLITE_OK;
    for (auto const& value : values) {
        ++at;
        // Neither is a null pointer a null, nor are empty bytes nothing.
        char const* const bytes = value.bytes_.data() == nullptr ? "" : value.bytes_.data();
        auto const size = static_cast<sqlite3_uint64>(value.bytes_.size());
        switch (value.kind_) {
            case Value::Kind::null: result = sqlite3_bind_null(raw, at); break;
            case Value::Kind::integer: result = sqlite3_bind_int64(raw, at, value.number_); break;
            case Value::Kind::real: result = sqlite3_bind_double(raw, at, value.real_); break;
            case Value::Kind::text:
                result = sqlite3_bind_text64(raw, at, bytes, size, SQLITE_TRANSIENT, SQLITE_UTF8);
                break;
            case Value::Kind::blob: result = sqlite3_bind_blob64(raw, at, bytes, size, SQLITE_TRANSIENT); break;
        }
        if (result != SQLITE_OK) return error(result, fmt::format("bind value {}", at));
    }
    return statement;
}

void Database::Impl::keep(std::string sql, Prepared statement) {
    if (!statement) return;
    sqlite3_reset(statement.get());
    sqlite3_clear_bindings(statement.get());
    idle.push_front({std::move(sql), std::move(statement)});
    if (idle.size() > kStatementsKept) idle.pop_back();
}

Result<std::int64_t> Database::run(std::string_view sql, std::initializer_list<Value> values) {
    HEARTH_TRY(auto statement, impl_->bound(sql, values));
    int result = SQLITE_ROW;
    while (result == SQLITE_ROW) result = sqlite3_step(statement.get());
    if (result != SQLITE_DONE) return impl_->error(result, "write");
    impl_->keep(std::string(sql), std::move(statement));
    return sqlite3_changes64(impl_->connection.get());
}

Result<Rows> Database::query(std::string_view sql, std::initializer_list<Value> values) {
    HEARTH_TRY(auto statement, impl_->bound(sql, values));
    auto rows = std::make_unique<Rows::Impl>();
    rows->database = impl_.get();
    rows->sql = sql;
    rows->statement = std::move(statement);
    return Rows(std::move(rows));
}

Result<std::optional<std::int64_t>> Database::query_integer(std::string_view sql, std::initializer_list<Value> values) {
    HEARTH_TRY(auto rows, query(sql, values));
    HEARTH_TRY(bool const some, rows.next());
    if (!some || rows.is_null(0)) return std::optional<std::int64_t>();
    return std::optional(rows.integer(0));
}

std::int64_t Database::last_row_id() const { return sqlite3_last_insert_rowid(impl_->connection.get()); }
std::string const& Database::path() const { return impl_->options.path; }
Status Database::check() { return impl_->check_pages("PRAGMA integrity_check"); }

// --- transactions ------------------------------------------------------------

Status Database::Impl::commit() const { return execute("COMMIT", "commit"); }

// SQLite undoes some transactions by itself, on a full disk for example.
void Database::Impl::roll_back() const {
    if (sqlite3_get_autocommit(connection.get()) == 0)
        sqlite3_exec(connection.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

Status Database::transact(std::function<Status()> const& body) {
    HEARTH_ASSERT(!impl_->in_transaction, "transactions do not nest");
    HEARTH_CHECK(impl_->execute("BEGIN IMMEDIATE", "begin to write"));
    impl_->in_transaction = true;
    auto done = body();
    if (done) done = impl_->commit();
    if (!done) impl_->roll_back();
    impl_->in_transaction = false;
    return done;
}

// --- rows --------------------------------------------------------------------

Rows::Rows(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Rows::Rows(Rows&&) noexcept = default;
Rows::~Rows() = default;

Result<bool> Rows::next() {
    int const result = sqlite3_step(impl_->statement.get());
    if (result == SQLITE_ROW) return true;
    if (result == SQLITE_DONE) return false;
    return impl_->database->error(result, "read");
}

std::int64_t Rows::integer(int column) const { return sqlite3_column_int64(impl_->statement.get(), column); }
double Rows::real(int column) const { return sqlite3_column_double(impl_->statement.get(), column); }
bool Rows::is_null(int column) const { return sqlite3_column_type(impl_->statement.get(), column) == SQLITE_NULL; }

std::string_view Rows::text(int column) const {
    auto const* const text = reinterpret_cast<char const*>(sqlite3_column_text(impl_->statement.get(), column));
    auto const size = sqlite3_column_bytes(impl_->statement.get(), column);
    return text == nullptr ? std::string_view() : std::string_view(text, static_cast<std::size_t>(size));
}

std::span<std::byte const> Rows::blob(int column) const {
    auto const* const bytes = static_cast<std::byte const*>(sqlite3_column_blob(impl_->statement.get(), column));
    return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(impl_->statement.get(), column))};
}

std::string_view sqlite_version() { return sqlite3_libversion(); }

}  // namespace hearth::store
