#include "jobs/table.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace hearth::jobs {
namespace {

using store::Value;

constexpr std::uint32_t kApplicationId = 0x48740A01;

constexpr std::array kSchema{store::Migration{"the table of jobs", R"(
    CREATE TABLE jobs(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, key TEXT NOT NULL, payload TEXT NOT NULL,
        state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),
        attempt INTEGER NOT NULL, failures INTEGER NOT NULL,
        holder TEXT NOT NULL, token INTEGER NOT NULL, lease_until INTEGER NOT NULL, due INTEGER NOT NULL,
        done INTEGER NOT NULL, total INTEGER NOT NULL, text TEXT NOT NULL, mark INTEGER NOT NULL,
        error TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, finished INTEGER NOT NULL) STRICT;
    CREATE UNIQUE INDEX jobs_open ON jobs(kind, key) WHERE state < 3 AND key <> '';
    CREATE INDEX jobs_key ON jobs(kind, key);
    CREATE INDEX jobs_state ON jobs(state, kind, sequence);
    CREATE INDEX jobs_finished ON jobs(finished) WHERE state >= 3;)"},
                             store::Migration{"the parts of a job, codes of failures", R"(
    ALTER TABLE jobs ADD COLUMN parts TEXT NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN code INTEGER NOT NULL DEFAULT -1;)"}};

constexpr std::int64_t kNoCode = -1;

constexpr std::string_view kSelect =
    "SELECT sequence, id, kind, key, payload, state, attempt, failures, holder, token, lease_until, due, done, total, "
    "text, mark, error, created, updated, finished, parts, code FROM jobs j WHERE ";

// SQLite's integers are signed.
std::int64_t stored(std::uint64_t number) {
    return static_cast<std::int64_t>(std::min(number, static_cast<std::uint64_t>(INT64_MAX)));
}

// A line for each: "DONE TOTAL NAME", and behind tabs file, state and note.
std::string render(std::vector<Part> const& parts) {
    std::string out;
    for (auto const& part : parts)
        out +=
            fmt::format("{} {} {}\t{}\t{}\t{}\n", part.done, part.total, part.name, part.file, part.state, part.note);
    return out;
}

std::vector<Part> parse_parts(std::string_view text) {
    std::vector<Part> parts;
    while (!text.empty()) {
        auto const end = text.find('\n');
        auto line = text.substr(0, end);
        Part part;
        for (auto* const number : {&part.done, &part.total}) {
            auto const [at, failed] = std::from_chars(line.data(), line.data() + line.size(), *number);
            if (failed != std::errc()) return parts;  // nobody else writes here
            line.remove_prefix(std::min(line.size(), static_cast<std::size_t>(at - line.data()) + 1));
        }
        for (auto* const field : {&part.name, &part.file, &part.state, &part.note}) {
            auto const tab = std::min(line.find('\t'), line.size());
            *field = line.substr(0, tab);
            line.remove_prefix(std::min(tab + 1, line.size()));
        }
        parts.push_back(std::move(part));
        if (end == std::string_view::npos) break;
        text.remove_prefix(end + 1);
    }
    return parts;
}

Record record_of(store::Rows const& row) {
    Record record;
    auto& job = record.job;
    int at = 0;
    auto const number = [&] { return row.integer(at++); };
    auto const text = [&] { return std::string(row.text(at++)); };
    job.sequence = number();
    job.id = text();
    job.kind = text();
    job.key = text();
    job.payload = text();
    job.state = static_cast<State>(number());
    job.attempt = static_cast<std::uint32_t>(number());
    job.failures = static_cast<std::uint32_t>(number());
    job.holder = text();
    record.token = static_cast<std::uint64_t>(number());
    job.lease_until = number();
    job.due = number();
    job.progress.done = static_cast<std::uint64_t>(number());
    job.progress.total = static_cast<std::uint64_t>(number());
    job.progress.text = text();
    record.mark = static_cast<std::uint64_t>(number());
    job.error = text();
    job.created = number();
    job.updated = number();
    job.finished = number();
    job.progress.parts = parse_parts(row.text(at++));
    auto const code = number();
    // Of a newer version there may be others.
    if (code >= 0 && code < kCodeCount) job.code = static_cast<Code>(code);
    return record;
}

std::int64_t number_of(State state) { return static_cast<std::int64_t>(state); }
std::int64_t number_of(std::optional<Code> code) { return code ? static_cast<std::int64_t>(*code) : kNoCode; }

}  // namespace

Result<std::unique_ptr<Table>> Table::open(std::string const& path, std::string const& vfs) {
    HEARTH_TRY(auto database, store::Database::open(
                                  {.path = path, .application_id = kApplicationId, .migrations = kSchema, .vfs = vfs}));
    return std::unique_ptr<Table>(new Table(std::move(database)));  // NOLINT(modernize-make-unique): private
}

Status Table::insert(Record& record) {
    auto const& job = record.job;
    HEARTH_CHECK(database_->run(
        "INSERT INTO jobs(id, kind, key, payload, state, attempt, failures, holder, token, lease_until, due, done, "
        "total, "
        "text, mark, error, created, updated, finished) VALUES(?, ?, ?, ?, ?, 0, 0, '', 0, 0, ?, 0, 0, '', 0, '', ?, "
        "?, 0)",
        {job.id, job.kind, job.key, job.payload, number_of(job.state), job.due, job.created, job.updated}));
    record.job.sequence = database_->last_row_id();
    return ok();
}

Status Table::update(Record const& record) {
    auto const& job = record.job;
    HEARTH_CHECK(database_->run(
        "UPDATE jobs SET state = ?, attempt = ?, failures = ?, holder = ?, token = ?, lease_until = ?, "
        "due = ?, done = ?, "
        "total = ?, text = ?, parts = ?, mark = ?, error = ?, code = ?, updated = ?, finished = ? "
        "WHERE sequence = ?",
        {number_of(job.state), job.attempt, job.failures, job.holder, stored(record.token), job.lease_until, job.due,
         stored(job.progress.done), stored(job.progress.total), job.progress.text, render(job.progress.parts),
         stored(record.mark), job.error, number_of(job.code), job.updated, job.finished, job.sequence}));
    return ok();
}

Result<std::vector<Record>> Table::many(std::string_view where, std::initializer_list<Value> values) {
    HEARTH_TRY(auto rows, database_->query(std::string(kSelect).append(where), values));
    std::vector<Record> records;
    while (true) {
        HEARTH_TRY(bool const some, rows.next());
        if (!some) return records;
        records.push_back(record_of(rows));
    }
}

Result<std::optional<Record>> Table::one(std::string_view where, std::initializer_list<Value> values) {
    HEARTH_TRY(auto records, many(where, values));
    if (records.empty()) return std::optional<Record>();
    return std::optional(std::move(records.front()));
}

Result<Record> Table::find(std::string_view id) {
    HEARTH_TRY(auto record, one("id = ?", {id}));
    if (!record) return Error(Code::not_found, fmt::format("there is no job '{}'", id.substr(0, kTextMax)), "id");
    return *std::move(record);
}

Result<std::optional<Record>> Table::find_open(std::string_view kind, std::string_view key) {
    return one("kind = ? AND key = ? AND state < 3", {kind, key});
}

Result<std::optional<Record>> Table::find_due(std::string_view kind, UnixMs now) {
    return one(
        "state = 0 AND kind = ? AND due <= ? AND (holder = '' OR lease_until <= ?) AND NOT EXISTS "
        "(SELECT 1 FROM jobs o WHERE o.kind = j.kind AND o.key = j.key AND o.key <> '' "
        " AND o.sequence <> j.sequence AND o.holder <> '' AND o.lease_until > ?) ORDER BY sequence LIMIT 1",
        {kind, now, now, now});
}

Result<std::vector<Record>> Table::find_expired(std::string_view kind, UnixMs now, std::size_t limit) {
    return many("state = 1 AND (kind = ? OR ? = '') AND lease_until <= ? ORDER BY sequence LIMIT ?",
                {kind, kind, now, static_cast<std::int64_t>(limit)});
}

Result<std::vector<Record>> Table::list(Filter const& filter) {
    auto const any = std::int64_t{-1};
    auto const state = filter.state ? number_of(*filter.state) : any;
    return many("sequence < ? AND (? = -1 OR state = ?) AND (? = '' OR kind = ?) ORDER BY sequence DESC LIMIT ?",
                {filter.before, state, state, filter.kind, filter.kind,
                 static_cast<std::int64_t>(std::min(filter.limit, kPageMax))});
}

// A queued job whose holder, or that of another with its key, has not let go is
// due when that lease expires, at the latest.
Result<std::optional<UnixMs>> Table::next_due(std::string_view kind) {
    return database_->query_integer(
        "SELECT min(CASE WHEN state = 1 THEN lease_until ELSE max(due, lease_until, coalesce("
        "(SELECT max(o.lease_until) FROM jobs o WHERE o.kind = j.kind AND o.key = j.key AND o.key <> ''), 0)) END) "
        "FROM jobs j WHERE state IN (0, 1) AND kind = ?",
        {kind});
}

Result<std::size_t> Table::count_open() {
    HEARTH_TRY(auto const count, database_->query_integer("SELECT count(*) FROM jobs WHERE state < 3"));
    return static_cast<std::size_t>(count.value_or(0));
}

// Those somebody still holds stay: they keep others with their key from running.
Status Table::trim(std::size_t keep) {
    HEARTH_CHECK(
        database_->run("DELETE FROM jobs WHERE holder = '' AND sequence IN (SELECT sequence FROM jobs WHERE state >= 3 "
                       "ORDER BY finished DESC, sequence DESC LIMIT -1 OFFSET ?)",
                       {static_cast<std::int64_t>(keep)}));
    return ok();
}

}  // namespace hearth::jobs
