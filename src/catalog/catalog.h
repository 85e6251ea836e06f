// Catalog: what models there are and what is known of them, in SQLite.
//
// The files are the truth and stay where they are; the catalog remembers what
// was read of them, so that a scan looks again only into files whose size or
// time changed, and keeps what no file says: aliases, the pinned template,
// checksums that were computed. A model whose files are gone is not listed, but
// what was kept of it comes back with them.
//
// A chat template decides what a model is made to read. Its hash is pinned at
// first use; when the file brings another one later, that is told until somebody
// confirms it.
//
// The chat template of a folder of safetensors is the one it will have when it was converted,
// so that its pin holds for what is served.
//
// A file whose bytes are recorded (layouts.h) is damaged when it holds others; it is
// not to be used from the moment it changed until it was read again. One of which
// nobody said what it should be is another version when it changes, and damaged only
// when it holds other bytes than before although it did not change as far as the file
// system tells.
//
// Threads: one at a time; blocks on the disk. Errors: `not_found`,
// `invalid_argument`, and store's; without the writer's lock a Catalog can be
// opened read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "catalog/layouts.h"

namespace hearth::catalog {

inline constexpr std::size_t kAliasesMax = 10'000;
inline constexpr std::int64_t kUseDaysKept = 30;

struct Model {
    std::string name;  // canonical: the file's name for plain files, NAME:TAG for others
    Layout layout = Layout::folder;
    std::string source;
    std::string title, license, architecture, quantization;  // as the file says
    std::uint64_t parameters = 0, context = 0, bytes = 0;
    std::vector<std::string> capabilities;  // completion, embedding, insert, tools, thinking, vision
    std::string template_sha256;            // of the file's template; empty: none
    std::string template_pinned;            // empty: not used yet
    std::string options;                    // Ollama's parameters as JSON; empty: none
    std::string system;                     // Ollama's system prompt
    std::string problem;                    // why it cannot be served; empty: it can
    std::vector<std::string> aliases;
    std::vector<std::string> pulled;  // those of the aliases that a pull gave it
    std::vector<ModelFile> files;

    // What lists call it, each an entry of its own: its name and its aliases. The file of one
    // that was pulled has its name by chance, so that is found and not listed. Never empty.
    [[nodiscard]] std::vector<std::string> names() const;

    // What is wrong with its files; empty: nothing that is known of.
    [[nodiscard]] std::string damage() const;
    // A file changed that should not have: nothing is known before it was read.
    [[nodiscard]] bool unsettled() const;

    [[nodiscard]] bool template_changed() const {
        return !template_pinned.empty() && template_pinned != template_sha256;
    }
};

// Why what was found cannot be served, as far as its headers tell; empty: it can.
[[nodiscard]] std::string problem_of(Found const& found);

// SHA-256 of the chat template of a file or of a folder of safetensors; empty: it has none, or cannot be read.
[[nodiscard]] std::string template_sha256_of(std::string const& path);

// Of what the model can do, what requests may ask for: nobody can ask for tools, thinking or images yet.
[[nodiscard]] std::vector<std::string> servable_capabilities(Model const& model);

struct ScanReport {
    std::size_t added = 0, changed = 0, unchanged = 0, gone = 0;
    std::vector<Refused> refused;
};

enum class Pin : std::uint8_t { now, same, changed };
enum class Access : std::uint8_t { read_write, read_only };

// Who gave a model another name. Stored by number: append, never renumber.
enum class AliasBy : std::uint8_t { user = 0, pull = 1 };

class Catalog {
public:
    [[nodiscard]] static Result<std::unique_ptr<Catalog>> open(std::string const& path, Access access);
    ~Catalog();
    Catalog(Catalog const&) = delete;
    Catalog& operator=(Catalog const&) = delete;

    // Makes the catalog say what is below `folders` now, in one transaction.
    [[nodiscard]] Result<ScanReport> scan(std::vector<std::string> const& folders);

    [[nodiscard]] Result<std::vector<Model>> list();

    // By name, then by alias, then by both as names::is_same_name() compares names,
    // where that is unambiguous: NAME and NAME:latest find one another.
    [[nodiscard]] Result<Model> find(std::string_view name);

    // `alias` must not be a model's name. Replaces, also what is the same name in another spelling.
    [[nodiscard]] Status set_alias(std::string const& alias, std::string_view name, AliasBy by = AliasBy::user);
    [[nodiscard]] Status remove_alias(std::string_view alias);

    // Paths of files that should hold those bytes, as it is recorded or was read; not of damaged ones.
    // `wanted` says of which models; empty: of all.
    [[nodiscard]] Result<std::vector<std::string>> files_with(std::string_view sha256,
                                                              std::function<bool(Model const&)> const& wanted = {});

    // At every use. `changed` changes nothing: confirm_template() does.
    [[nodiscard]] Result<Pin> pin_template(std::string_view name);
    [[nodiscard]] Status confirm_template(std::string_view name);

    // The same of a file or a folder that is served without a scan: what is pinned is that of the model
    // `name` if it is served from `path`, else one of the path itself, which a model found there later
    // begins with. `now`: nothing is pinned yet; the second one pins. No template is never pinned.
    [[nodiscard]] Result<Pin> compare_file(std::string_view name, std::string const& path,
                                           std::string_view template_sha256);
    [[nodiscard]] Status confirm_file(std::string_view name, std::string const& path, std::string_view template_sha256);

    // Reads all of the model's files and remembers what it found, as record() does.
    // `corrupt` when one is damaged; `cancelled` when `stop` says so, which is asked
    // every few MiB.
    [[nodiscard]] Status verify(std::string_view name, std::function<bool()> const& stop);

    // What somebody read of the model's files: each as it was then, with the SHA-256
    // computed of it, or with a `damage` where it could not be read. Of those that are
    // other files by now nothing is remembered. The model's damage after that.
    [[nodiscard]] Result<std::string> record(std::string_view name, std::vector<ModelFile> const& read);

    // --- how much models are used; days are counted since 1970 ---
    // Adds to what was counted on that day, and forgets what is older than kUseDaysKept.
    [[nodiscard]] Status count_uses(std::map<std::string, std::uint64_t> const& uses, std::int64_t day);
    // Those that are there, most used since `first_day` first, at most `limit`.
    [[nodiscard]] Result<std::vector<std::string>> most_used(std::int64_t first_day, std::size_t limit);

    // --- names that were moved to another file while they were served ---
    // From the file it had to the one it has. Back where it was at first, it is forgotten.
    [[nodiscard]] Status remember_swap(std::string const& name, std::string const& from, std::string const& to);
    // The file for a name that has `path`: another one if it was moved and that is still there. Either may be a
    // folder of safetensors.
    [[nodiscard]] Result<std::string> swapped(std::string const& name, std::string const& path);

private:
    struct Impl;
    explicit Catalog(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::catalog
