#include "catalog/catalog.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "catalog/facts.h"
#include "digest/sha256.h"
#include "names/names.h"
#include "store/database.h"

namespace hearth::catalog {
namespace {

constexpr std::uint32_t kApplicationId = 0x48740C01;

constexpr std::array kSchema{store::Migration{"models, files and aliases", R"(
    CREATE TABLE models(
        name TEXT PRIMARY KEY, present INTEGER NOT NULL, layout INTEGER NOT NULL, source TEXT NOT NULL,
        title TEXT NOT NULL, license TEXT NOT NULL, architecture TEXT NOT NULL, quantization TEXT NOT NULL,
        parameters INTEGER NOT NULL, context INTEGER NOT NULL, capabilities TEXT NOT NULL,
        template_sha256 TEXT NOT NULL, template_pinned TEXT NOT NULL DEFAULT '',
        options TEXT NOT NULL, system TEXT NOT NULL, problem TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE files(
        model TEXT NOT NULL REFERENCES models(name) ON DELETE CASCADE, position INTEGER NOT NULL,
        path TEXT NOT NULL, bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL,
        sha256 TEXT NOT NULL, verified INTEGER NOT NULL, PRIMARY KEY (model, position)) STRICT, WITHOUT ROWID;
    CREATE TABLE aliases(
        alias TEXT PRIMARY KEY, model TEXT NOT NULL REFERENCES models(name) ON DELETE CASCADE) STRICT, WITHOUT ROWID;
    CREATE INDEX aliases_model ON aliases(model);)"},
                             store::Migration{"damage, uses and swaps", R"(
    ALTER TABLE files RENAME COLUMN verified TO soundness;
    ALTER TABLE files ADD COLUMN inode INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE files ADD COLUMN recorded INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE files ADD COLUMN damage TEXT NOT NULL DEFAULT '';
    CREATE TABLE uses(
        model TEXT NOT NULL REFERENCES models(name) ON DELETE CASCADE, day INTEGER NOT NULL,
        count INTEGER NOT NULL, PRIMARY KEY (model, day)) STRICT, WITHOUT ROWID;
    CREATE TABLE swaps(
        name TEXT PRIMARY KEY, from_path TEXT NOT NULL, to_path TEXT NOT NULL) STRICT, WITHOUT ROWID;)"},
                             store::Migration{"who gave an alias", R"(
    ALTER TABLE aliases ADD COLUMN given_by INTEGER NOT NULL DEFAULT 0;)"},
                             store::Migration{"templates of files that are no models of a folder", R"(
    CREATE TABLE pins(path TEXT PRIMARY KEY, template_sha256 TEXT NOT NULL) STRICT, WITHOUT ROWID;)"}};

std::int64_t stored(std::uint64_t number) {
    return static_cast<std::int64_t>(std::min(number, static_cast<std::uint64_t>(INT64_MAX)));
}

// Capabilities are words of ours, without commas.
std::string joined(std::vector<std::string> const& words) {
    std::string out;
    for (auto const& word : words) out += (out.empty() ? "" : ",") + word;
    return out;
}

std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> out;
    while (!text.empty()) {
        auto const comma = std::min(text.find(','), text.size());
        out.emplace_back(text.substr(0, comma));
        text.remove_prefix(std::min(comma + 1, text.size()));
    }
    return out;
}

// What was known of a file holds on while it is the same, and so is what is recorded of it.
ModelFile with_knowledge(ModelFile found, std::vector<ModelFile> const& before) {
    auto const known = std::ranges::find(before, found.path, &ModelFile::path);
    if (known == before.end()) return found;
    bool const same = is_same_file(*known, found);
    bool const agrees = !found.recorded || found.sha256 == known->sha256;
    if (same && agrees && (known->recorded == found.recorded || known->soundness == Soundness::whole)) {
        found.sha256 = known->sha256;
        found.soundness = known->soundness;
        found.damage = known->damage;
    } else if (!same && found.recorded) {
        found.soundness = Soundness::changed;
    }
    return found;
}

Model described(Found const& found, std::vector<ModelFile> files) {
    Model model;
    model.name = found.name;
    model.layout = found.layout;
    model.source = found.source;
    model.options = found.options;
    model.system = found.system;
    model.files = std::move(files);
    read_facts(model);
    if (model.problem.empty()) model.problem = found.problem;
    return model;
}

std::string resolved(std::string const& path) {
    std::error_code failed;
    auto const real = std::filesystem::canonical(path, failed);
    return failed ? path : real.string();
}

void judge(ModelFile& file, ModelFile const& read) {
    auto const name = file.path.substr(file.path.rfind('/') + 1);
    file.damage = read.damage;
    if (file.damage.empty() && !file.sha256.empty() && file.sha256 != read.sha256)
        file.damage = fmt::format("'{}' has SHA-256 {}, {} {}", name, read.sha256,
                                  file.recorded ? "it should be" : "though unchanged; it was", file.sha256);
    file.soundness = file.damage.empty() ? Soundness::whole : Soundness::damaged;
    if (file.damage.empty()) file.sha256 = read.sha256;
}

}  // namespace

std::string problem_of(Found const& found) { return described(found, found.files).problem; }

std::string template_sha256_of(std::string const& path) {
    std::error_code failed;
    Found found;
    found.files.emplace_back().path = std::filesystem::is_directory(path, failed) ? path + "/config.json" : path;
    return described(found, found.files).template_sha256;
}

std::vector<std::string> servable_capabilities(Model const& model) {
    constexpr std::array<std::string_view, 4> kServed{"completion", "embedding", "insert", "rerank"};
    std::vector<std::string> out;
    std::ranges::copy_if(model.capabilities, std::back_inserter(out),
                         [&](std::string const& each) { return std::ranges::find(kServed, each) != kServed.end(); });
    return out;
}

struct Catalog::Impl {
    std::unique_ptr<store::Database> database;

    [[nodiscard]] Result<std::vector<ModelFile>> files_of(std::string_view name) const;
    [[nodiscard]] Status read_aliases(Model& model) const;
    [[nodiscard]] Status forget_spellings(std::string const& alias) const;
    [[nodiscard]] Result<std::vector<Model>> models(std::string_view where,
                                                    std::initializer_list<store::Value> values) const;
    [[nodiscard]] Result<std::set<std::string>> names(std::string_view where) const;
    [[nodiscard]] Status save(Model const& model) const;
    [[nodiscard]] Status save_files(Model const& model) const;
    [[nodiscard]] Status apply(Found const& found, std::set<std::string> const& before, ScanReport& report) const;
    [[nodiscard]] Result<std::string> resolve(std::string_view name) const;
    [[nodiscard]] Result<std::optional<Model>> served_as(std::string_view name, std::string const& path) const;
    [[nodiscard]] Result<std::string> pin_of(std::string const& path) const;
};

// --- rows --------------------------------------------------------------------

Result<std::vector<ModelFile>> Catalog::Impl::files_of(std::string_view name) const {
    HEARTH_TRY(auto rows, database->query("SELECT path, bytes, modified_ns, inode, sha256, recorded, soundness, damage "
                                          "FROM files WHERE model = ? ORDER BY position",
                                          {name}));
    std::vector<ModelFile> files;
    while (true) {
        HEARTH_TRY(bool const some, rows.next());
        if (!some) return files;
        ModelFile file;
        file.path = rows.text(0);
        file.bytes = static_cast<std::uint64_t>(rows.integer(1));
        file.modified_ns = rows.integer(2);
        file.inode = static_cast<std::uint64_t>(rows.integer(3));
        file.sha256 = rows.text(4);
        file.recorded = rows.integer(5) != 0;
        file.soundness = static_cast<Soundness>(rows.integer(6));
        file.damage = rows.text(7);
        files.push_back(std::move(file));
    }
}

Status Catalog::Impl::read_aliases(Model& model) const {
    HEARTH_TRY(auto rows,
               database->query("SELECT alias, given_by FROM aliases WHERE model = ? ORDER BY alias", {model.name}));
    while (true) {
        HEARTH_TRY(bool const some, rows.next());
        if (!some) return ok();
        auto const& alias = model.aliases.emplace_back(rows.text(0));
        if (static_cast<AliasBy>(rows.integer(1)) == AliasBy::pull) model.pulled.push_back(alias);
    }
}

Result<std::vector<Model>> Catalog::Impl::models(std::string_view where,
                                                 std::initializer_list<store::Value> values) const {
    HEARTH_TRY(auto rows,
               database->query(fmt::format("SELECT name, layout, source, title, license, architecture, quantization, "
                                           "parameters, context, capabilities, template_sha256, template_pinned, "
                                           "options, system, problem FROM models WHERE {} ORDER BY name",
                                           where),
                               values));
    std::vector<Model> found;
    while (true) {
        HEARTH_TRY(bool const some, rows.next());
        if (!some) break;
        Model model;
        int at = 0;
        auto const text = [&] { return std::string(rows.text(at++)); };
        auto const number = [&] { return rows.integer(at++); };
        model.name = text();
        model.layout = static_cast<Layout>(number());
        for (auto* field : {&model.source, &model.title, &model.license, &model.architecture, &model.quantization})
            *field = text();
        model.parameters = static_cast<std::uint64_t>(number());
        model.context = static_cast<std::uint64_t>(number());
        model.capabilities = split(text());
        for (auto* field :
             {&model.template_sha256, &model.template_pinned, &model.options, &model.system, &model.problem})
            *field = text();
        found.push_back(std::move(model));
    }
    for (auto& model : found) {
        HEARTH_TRY(model.files, files_of(model.name));
        HEARTH_CHECK(read_aliases(model));
        for (auto const& file : model.files) model.bytes += file.bytes;
    }
    return found;
}

Result<std::set<std::string>> Catalog::Impl::names(std::string_view where) const {
    HEARTH_TRY(auto rows, database->query(fmt::format("SELECT name FROM models WHERE {}", where)));
    std::set<std::string> found;
    while (true) {
        HEARTH_TRY(bool const some, rows.next());
        if (!some) return found;
        found.emplace(rows.text(0));
    }
}

// The pinned template is not a fact of the file, and stays.
Status Catalog::Impl::save(Model const& model) const {
    HEARTH_CHECK(database->run(
        "INSERT INTO models(name, present, layout, source, title, license, architecture, quantization, parameters, "
        "context, capabilities, template_sha256, options, system, problem) "
        "VALUES(?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(name) DO UPDATE SET present = 1, "
        "layout = excluded.layout, source = excluded.source, title = excluded.title, license = excluded.license, "
        "architecture = excluded.architecture, quantization = excluded.quantization, parameters = excluded.parameters, "
        "context = excluded.context, capabilities = excluded.capabilities, template_sha256 = excluded.template_sha256, "
        "options = excluded.options, system = excluded.system, problem = excluded.problem",
        {model.name, static_cast<std::int64_t>(model.layout), model.source, model.title, model.license,
         model.architecture, model.quantization, stored(model.parameters), stored(model.context),
         joined(model.capabilities), model.template_sha256, model.options, model.system, model.problem}));
    return save_files(model);
}

Status Catalog::Impl::save_files(Model const& model) const {
    HEARTH_CHECK(database->run("DELETE FROM files WHERE model = ?", {model.name}));
    std::int64_t position = 0;
    for (auto const& file : model.files) {
        HEARTH_CHECK(database->run(
            "INSERT INTO files(model, position, path, bytes, modified_ns, inode, sha256, recorded, soundness, damage) "
            "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            {model.name, position++, file.path, stored(file.bytes), file.modified_ns,
             static_cast<std::int64_t>(file.inode), file.sha256, file.recorded,
             static_cast<std::int64_t>(file.soundness), file.damage}));
    }
    return ok();
}

// --- scanning ----------------------------------------------------------------

Status Catalog::Impl::apply(Found const& found, std::set<std::string> const& before, ScanReport& report) const {
    HEARTH_TRY(auto known, models("name = ?", {found.name}));
    bool const was_listed = before.contains(found.name);
    std::vector<ModelFile> files;
    files.reserve(found.files.size());
    for (auto const& file : found.files) files.push_back(known.empty() ? file : with_knowledge(file, known[0].files));
    if (was_listed && known[0].files == files && known[0].options == found.options && known[0].system == found.system &&
        known[0].source == found.source) {
        ++report.unchanged;
        return ok();
    }
    ++(was_listed ? report.changed : report.added);
    auto const model = described(found, std::move(files));
    HEARTH_CHECK(save(model));
    if (!known.empty()) return ok();
    HEARTH_TRY(auto const pinned, pin_of(resolved(served_from(model.files))));
    HEARTH_CHECK(database->run("UPDATE models SET template_pinned = ? WHERE name = ?", {pinned, model.name}));
    return ok();
}

Result<ScanReport> Catalog::scan(std::vector<std::string> const& folders) {
    auto findings = find_models(folders);
    ScanReport report;
    report.refused = std::move(findings.refused);
    auto const body = [&]() -> Status {
        HEARTH_TRY(auto const before, impl_->names("present = 1"));
        auto gone = before;
        for (auto const& found : findings.models) {
            gone.erase(found.name);
            HEARTH_CHECK(impl_->apply(found, before, report));
        }
        for (auto const& name : gone)
            HEARTH_CHECK(impl_->database->run("UPDATE models SET present = 0 WHERE name = ?", {name}));
        report.gone = gone.size();
        return ok();
    };
    HEARTH_CHECK(impl_->database->transact(body));
    return report;
}

// --- looking up --------------------------------------------------------------

Result<std::string> Catalog::Impl::resolve(std::string_view name) const {
    HEARTH_TRY(auto const all, names("present = 1"));
    if (all.contains(std::string(name))) return std::string(name);
    HEARTH_TRY(auto alias, database->query("SELECT model FROM aliases JOIN models ON model = name "
                                           "WHERE alias = ? AND present = 1",
                                           {name}));
    HEARTH_TRY(bool const some, alias.next());
    if (some) return std::string(alias.text(0));
    std::set<std::string> hits;
    for (auto const& one : all) {
        if (names::is_same_name(one, name)) hits.insert(one);
    }
    HEARTH_TRY(auto spelt, database->query("SELECT alias, model FROM aliases JOIN models ON model = name "
                                           "WHERE present = 1"));
    while (true) {
        HEARTH_TRY(bool const more, spelt.next());
        if (!more) break;
        if (names::is_same_name(spelt.text(0), name)) hits.emplace(spelt.text(1));
    }
    if (hits.size() == 1) return *hits.begin();
    if (hits.size() > 1)
        return Error(
            Code::invalid_argument,
            fmt::format("'{}' means more than one model: {} and {}", name, *hits.begin(), *std::next(hits.begin())),
            "model");
    return Error(Code::not_found, fmt::format("no model '{}'; `hearth list` shows what there is", name), "model");
}

Result<std::unique_ptr<Catalog>> Catalog::open(std::string const& path, Access access) {
    auto impl = std::make_unique<Impl>();
    auto const mode = access == Access::read_write ? store::Options::Mode::read_write : store::Options::Mode::read_only;
    HEARTH_TRY(impl->database,
               store::Database::open(
                   {.path = path, .mode = mode, .application_id = kApplicationId, .migrations = kSchema, .vfs = {}}));
    return std::unique_ptr<Catalog>(new Catalog(std::move(impl)));  // NOLINT(modernize-make-unique): private
}

Catalog::Catalog(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Catalog::~Catalog() = default;

Result<std::vector<Model>> Catalog::list() { return impl_->models("present = 1", {}); }

Result<Model> Catalog::find(std::string_view name) {
    HEARTH_TRY(auto const resolved, impl_->resolve(name));
    HEARTH_TRY(auto found, impl_->models("name = ?", {resolved}));
    return std::move(found.at(0));
}

// Those that are the same name, but not letter by letter.
Status Catalog::Impl::forget_spellings(std::string const& alias) const {
    std::vector<std::string> others;
    {
        HEARTH_TRY(auto rows, database->query("SELECT alias FROM aliases WHERE alias <> ?", {alias}));
        while (true) {
            HEARTH_TRY(bool const some, rows.next());
            if (!some) break;
            if (names::is_same_name(rows.text(0), alias)) others.emplace_back(rows.text(0));
        }
    }
    for (auto const& other : others) HEARTH_CHECK(database->run("DELETE FROM aliases WHERE alias = ?", {other}));
    return ok();
}

Status Catalog::set_alias(std::string const& alias, std::string_view name, AliasBy by) {
    return impl_->database->transact([&]() -> Status {
        if (alias.empty() || alias.size() > kNamePartMax)
            return Error(Code::invalid_argument,
                         fmt::format("an alias has 1 to {} bytes, this one {}", kNamePartMax, alias.size()), "alias");
        HEARTH_TRY(auto const all, impl_->names("present = 1"));
        if (all.contains(alias))
            return Error(Code::invalid_argument, fmt::format("'{}' is a model, so it can be no alias", alias), "alias");
        HEARTH_TRY(auto const count, impl_->database->query_integer("SELECT count(*) FROM aliases"));
        if (static_cast<std::size_t>(count.value_or(0)) >= kAliasesMax)
            return Error(Code::too_large, fmt::format("there are {} aliases, which is the limit", kAliasesMax),
                         "alias");
        HEARTH_TRY(auto const resolved, impl_->resolve(name));
        HEARTH_CHECK(impl_->forget_spellings(alias));
        HEARTH_CHECK(impl_->database->run(
            "INSERT INTO aliases(alias, model, given_by) VALUES(?, ?, ?) "
            "ON CONFLICT(alias) DO UPDATE SET model = excluded.model, given_by = excluded.given_by",
            {alias, resolved, static_cast<std::int64_t>(by)}));
        return ok();
    });
}

Status Catalog::remove_alias(std::string_view alias) {
    HEARTH_TRY(auto const removed, impl_->database->run("DELETE FROM aliases WHERE alias = ?", {alias}));
    return removed > 0 ? ok() : Status(Error(Code::not_found, fmt::format("no alias '{}'", alias), "alias"));
}

Result<std::vector<std::string>> Catalog::files_with(std::string_view sha256,
                                                     std::function<bool(Model const&)> const& wanted) {
    HEARTH_TRY(auto rows,
               impl_->database->query("SELECT path, model FROM files JOIN models ON model = name WHERE present = 1 AND "
                                      "sha256 = ? AND soundness IN (?, ?) ORDER BY soundness DESC, path",
                                      {sha256, static_cast<std::int64_t>(Soundness::unread),
                                       static_cast<std::int64_t>(Soundness::whole)}));
    std::vector<std::string> paths;
    while (true) {
        HEARTH_TRY(bool const some, rows.next());
        if (!some) return paths;
        if (wanted) {
            HEARTH_TRY(auto const found, impl_->models("name = ?", {rows.text(1)}));
            if (found.empty() || !wanted(found[0])) continue;
        }
        paths.emplace_back(rows.text(0));
    }
}

// --- templates and checksums -------------------------------------------------

Result<Pin> Catalog::pin_template(std::string_view name) {
    HEARTH_TRY(auto const model, find(name));
    if (model.template_changed()) return Pin::changed;
    if (model.template_pinned == model.template_sha256) return Pin::same;
    HEARTH_CHECK(confirm_template(model.name));
    return Pin::now;
}

Status Catalog::confirm_template(std::string_view name) {
    HEARTH_TRY(auto const model, find(name));
    HEARTH_CHECK(
        impl_->database->run("UPDATE models SET template_pinned = template_sha256 WHERE name = ?", {model.name}));
    return ok();
}

// Nothing where the name means no model, or one that is served from elsewhere.
Result<std::optional<Model>> Catalog::Impl::served_as(std::string_view name, std::string const& path) const {
    HEARTH_TRY(auto found, models("name = ? AND present = 1", {name}));
    bool const here =
        !found.empty() && !found[0].files.empty() && resolved(served_from(found[0].files)) == resolved(path);
    return here ? std::optional(std::move(found[0])) : std::nullopt;
}

Result<std::string> Catalog::Impl::pin_of(std::string const& path) const {
    HEARTH_TRY(auto rows, database->query("SELECT template_sha256 FROM pins WHERE path = ?", {path}));
    HEARTH_TRY(bool const some, rows.next());
    return std::string(some ? rows.text(0) : std::string_view());
}

Result<Pin> Catalog::compare_file(std::string_view name, std::string const& path, std::string_view template_sha256) {
    HEARTH_TRY(auto const model, impl_->served_as(name, path));
    HEARTH_TRY(auto const pinned, model ? Result<std::string>(model->template_pinned) : impl_->pin_of(resolved(path)));
    if (pinned == template_sha256) return Pin::same;
    return pinned.empty() ? Pin::now : Pin::changed;
}

Status Catalog::confirm_file(std::string_view name, std::string const& path, std::string_view template_sha256) {
    HEARTH_TRY(auto const model, impl_->served_as(name, path));
    if (model) {
        HEARTH_CHECK(impl_->database->run("UPDATE models SET template_pinned = ? WHERE name = ?",
                                          {template_sha256, model->name}));
        return ok();
    }
    HEARTH_CHECK(impl_->database->run(
        "INSERT INTO pins VALUES(?, ?) ON CONFLICT(path) DO UPDATE SET template_sha256 = excluded.template_sha256",
        {resolved(path), template_sha256}));
    return ok();
}

Status Catalog::verify(std::string_view name, std::function<bool()> const& stop) {
    HEARTH_TRY(auto model, find(name));
    for (auto& file : model.files) {
        HEARTH_TRY(auto const hash, digest::sha256_of_file(file.path, stop));
        file.sha256 = hash;
        file.damage.clear();
    }
    HEARTH_TRY(auto damage, record(model.name, model.files));
    return damage.empty() ? ok() : Status(Error(Code::corrupt, std::move(damage), model.name));
}

Result<std::string> Catalog::record(std::string_view name, std::vector<ModelFile> const& read) {
    std::string damage;
    auto const body = [&]() -> Status {
        HEARTH_TRY(auto model, find(name));
        for (auto& file : model.files) {
            auto const same = std::ranges::find_if(read, [&](auto const& each) { return is_same_file(each, file); });
            if (same != read.end()) judge(file, *same);
        }
        damage = model.damage();
        return impl_->save_files(model);
    };
    HEARTH_CHECK(impl_->database->transact(body));
    return damage;
}

std::vector<std::string> Model::names() const {
    std::vector<std::string> out = pulled;
    if (out.empty()) out.push_back(name);
    for (auto const& alias : aliases)
        if (std::ranges::find(pulled, alias) == pulled.end()) out.push_back(alias);
    return out;
}

std::string Model::damage() const {
    auto const damaged = std::ranges::find(files, Soundness::damaged, &ModelFile::soundness);
    return damaged == files.end() ? std::string() : damaged->damage;
}

bool Model::unsettled() const {
    return std::ranges::find(files, Soundness::changed, &ModelFile::soundness) != files.end();
}

// --- uses --------------------------------------------------------------------

Status Catalog::count_uses(std::map<std::string, std::uint64_t> const& uses, std::int64_t day) {
    return impl_->database->transact([&]() -> Status {
        for (auto const& [model, count] : uses)
            HEARTH_CHECK(
                impl_->database->run("INSERT INTO uses SELECT name, ?, ? FROM models WHERE name = ? "
                                     "ON CONFLICT(model, day) DO UPDATE SET count = count + excluded.count",
                                     {day, stored(count), model}));
        HEARTH_CHECK(impl_->database->run("DELETE FROM uses WHERE day < ?", {day - kUseDaysKept}));
        return ok();
    });
}

Result<std::vector<std::string>> Catalog::most_used(std::int64_t first_day, std::size_t limit) {
    HEARTH_TRY(auto rows, impl_->database->query(
                              "SELECT model FROM uses JOIN models ON model = name WHERE day >= ? AND present = 1 "
                              "GROUP BY model ORDER BY sum(count) DESC, model LIMIT ?",
                              {first_day, static_cast<std::int64_t>(limit)}));
    std::vector<std::string> names;
    while (true) {
        HEARTH_TRY(bool const some, rows.next());
        if (!some) return names;
        names.emplace_back(rows.text(0));
    }
}

// --- swaps -------------------------------------------------------------------

Status Catalog::remember_swap(std::string const& name, std::string const& from, std::string const& to) {
    return impl_->database->transact([&]() -> Status {
        // Moved on from where it was moved to: what the name would have without is as it was.
        auto origin = from;
        {
            HEARTH_TRY(auto rows, impl_->database->query("SELECT from_path FROM swaps WHERE name = ? AND to_path = ?",
                                                         {name, from}));
            HEARTH_TRY(bool const some, rows.next());
            if (some) origin = rows.text(0);
        }
        HEARTH_CHECK(impl_->database->run("DELETE FROM swaps WHERE name = ?", {name}));
        if (origin == to) return ok();
        HEARTH_CHECK(impl_->database->run("INSERT INTO swaps VALUES(?, ?, ?)", {name, origin, to}));
        return ok();
    });
}

Result<std::string> Catalog::swapped(std::string const& name, std::string const& path) {
    HEARTH_TRY(auto rows,
               impl_->database->query("SELECT to_path FROM swaps WHERE name = ? AND from_path = ?", {name, path}));
    HEARTH_TRY(bool const some, rows.next());
    std::string to(some ? rows.text(0) : std::string_view());
    std::error_code failed;
    return some && std::filesystem::exists(to, failed) ? to : path;
}

}  // namespace hearth::catalog
