// Database: one SQLite file, opened so that what was committed stays.
//
// What a commit acknowledged is on the medium (write-ahead log, synchronous
// FULL) and survives kill -9 and a power cut; what was not is gone entirely. A
// full disk or a failing one is an Error, never a damaged file: the transaction
// is undone and the next one may succeed.
//
// One process writes: opening for writing takes a lock beside the file until the
// Database is destroyed or the process ends. Readers need none and see the last
// commit. One file is one module's: it carries that module's application id and
// the version of its schema, and another's file or a newer schema is refused
// before anything is changed.
//
// SQL comes from the module as literals; values are bound, never pasted.
// Threads: one at a time per Database, its Statements included.
// Errors: `io` full disk, failing disk, no permission; `corrupt` no database or
// a damaged one; `unavailable` another process holds the lock; `unsupported` a
// newer schema; `invalid_argument` a violated constraint; `too_large` a value
// above kValueBytesMax; `internal` wrong SQL. `param` is the path.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::store {

inline constexpr std::size_t kValueBytesMax = 16U << 20;  // of one text or blob, and of one row
inline constexpr std::size_t kStatementsKept = 64;        // prepared and idle, per Database

// Number N of a list takes schema N-1 to N. Never changed once released.
struct Migration {
    std::string_view what;  // for errors: "the table of jobs"
    char const* sql;        // one or more statements
};

struct Options {
    enum class Mode : std::uint8_t { read_write, read_only };

    std::string path;                      // its folder is made (0700) when it is written
    Mode mode = Mode::read_write;          // read_only: it must exist, with the schema that is known
    std::uint32_t application_id = 0;      // of the module, not 0: tells its files from others
    std::span<Migration const> migrations;
    std::chrono::milliseconds busy_wait{5000};  // how long a reader or writer waits for another one
    std::string vfs;                       // SQLite's name of the file system, for tests; empty: the system's
};

// What is bound to a `?`. Views: text and blobs must live until the call returns.
class Value {
public:
    Value(std::nullptr_t) {}
    Value(std::int64_t number) : kind_(Kind::integer), number_(number) {}
    Value(int number) : Value(std::int64_t{number}) {}
    Value(std::uint32_t number) : Value(std::int64_t{number}) {}
    Value(bool number) : Value(std::int64_t{number}) {}
    Value(double real) : kind_(Kind::real), real_(real) {}
    Value(std::string_view text) : kind_(Kind::text), bytes_(text) {}
    Value(std::string const& text) : Value(std::string_view(text)) {}
    Value(char const* text) : Value(std::string_view(text)) {}
    Value(std::span<std::byte const> blob)
        : kind_(Kind::blob), bytes_(reinterpret_cast<char const*>(blob.data()), blob.size()) {}
    Value(std::optional<std::int64_t> number) : Value(number.value_or(0)) {
        if (!number) kind_ = Kind::null;
    }

private:
    friend class Database;
    enum class Kind : std::uint8_t { null, integer, real, text, blob };
    Kind kind_ = Kind::null;
    std::int64_t number_ = 0;
    double real_ = 0;
    std::string_view bytes_;
};

// The rows of one query, one after the other. Ends before its Database does.
class Rows {
public:
    ~Rows();
    Rows(Rows&&) noexcept;
    Rows(Rows const&) = delete;
    Rows& operator=(Rows const&) = delete;
    Rows& operator=(Rows&&) = delete;

    // Moves to the next row; false after the last.
    [[nodiscard]] Result<bool> next();

    // Columns of the present row, from 0. Views live until the next next().
    // A null reads as 0 or empty. REQUIRES: next() returned true
    [[nodiscard]] std::int64_t integer(int column) const;
    [[nodiscard]] double real(int column) const;
    [[nodiscard]] std::string_view text(int column) const;
    [[nodiscard]] std::span<std::byte const> blob(int column) const;
    [[nodiscard]] bool is_null(int column) const;

private:
    friend class Database;
    struct Impl;
    explicit Rows(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

class Database {
public:
    // Takes the writer's lock, looks at every page (quick_check) and brings the
    // schema up to date, each migration in a transaction of its own.
    [[nodiscard]] static Result<std::unique_ptr<Database>> open(Options options);

    ~Database();
    Database(Database const&) = delete;
    Database& operator=(Database const&) = delete;

    // Runs `body` in one transaction: committed when both say ok, undone
    // otherwise, with the first error. What the Rows inside saw is consistent.
    // REQUIRES: not inside another transact(); Rows made inside are gone when it returns.
    [[nodiscard]] Status transact(std::function<Status()> const& body);

    // Runs one statement to its end; the rows it changed. Outside transact() it
    // is a transaction of its own.
    Result<std::int64_t> run(std::string_view sql, std::initializer_list<Value> values = {});

    [[nodiscard]] Result<Rows> query(std::string_view sql, std::initializer_list<Value> values = {});

    // The first column of the first row; none without a row.
    [[nodiscard]] Result<std::optional<std::int64_t>> query_integer(std::string_view sql,
                                                                    std::initializer_list<Value> values = {});

    [[nodiscard]] std::int64_t last_row_id() const;
    [[nodiscard]] std::string const& path() const;

    // Looks at every page and every index (integrity_check).
    [[nodiscard]] Status check();

    // Public for the module's own files.
    struct Impl;

private:
    explicit Database(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// SQLite's version, for `hearth version` and bug reports.
[[nodiscard]] std::string_view sqlite_version();

}  // namespace hearth::store
