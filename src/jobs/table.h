// Table: jobs as rows; every statement of this module. What states mean is the
// Queue's business.
//
// Threads: one at a time. Private to jobs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jobs/queue.h"
#include "store/database.h"

namespace hearth::jobs {

struct Record {
    Job job;
    std::uint64_t token = 0;  // of the last lease
    std::uint64_t mark = 0;   // progress when that was given, or when it last failed
};

class Table {
public:
    [[nodiscard]] static Result<std::unique_ptr<Table>> open(std::string const& path, std::string const& vfs);

    [[nodiscard]] Status transact(std::function<Status()> const& body) { return database_->transact(body); }

    // Sets the sequence.
    [[nodiscard]] Status insert(Record& record);
    // All but what never changes: id, kind, key, payload, created.
    [[nodiscard]] Status update(Record const& record);

    [[nodiscard]] Result<Record> find(std::string_view id);  // not_found
    // The one of that kind and key that is not final.
    [[nodiscard]] Result<std::optional<Record>> find_open(std::string_view kind, std::string_view key);
    // The first that is queued and due, and whose key nobody holds a lease of.
    [[nodiscard]] Result<std::optional<Record>> find_due(std::string_view kind, UnixMs now);
    // Running ones whose lease expired; of all kinds with an empty `kind`.
    [[nodiscard]] Result<std::vector<Record>> find_expired(std::string_view kind, UnixMs now, std::size_t limit);
    [[nodiscard]] Result<std::vector<Record>> list(Filter const& filter);

    // The earliest moment at which find_due() or find_expired() may find one.
    [[nodiscard]] Result<std::optional<UnixMs>> next_due(std::string_view kind);
    [[nodiscard]] Result<std::size_t> count_open();
    // Removes all final jobs but the `keep` that ended last.
    [[nodiscard]] Status trim(std::size_t keep);

private:
    explicit Table(std::unique_ptr<store::Database> database) : database_(std::move(database)) {}
    [[nodiscard]] Result<std::optional<Record>> one(std::string_view where, std::initializer_list<store::Value> values);
    [[nodiscard]] Result<std::vector<Record>> many(std::string_view where, std::initializer_list<store::Value> values);

    std::unique_ptr<store::Database> const database_;
};

}  // namespace hearth::jobs
