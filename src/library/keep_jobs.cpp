#include "library/keep_jobs.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "digest/sha256.h"
#include "fetch/sources/note.h"
#include "fetch/sources/reference.h"
#include "library/permits.h"
#include "library/pull_job.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using catalog::ModelFile;
using catalog::Soundness;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kNice = 10;  // models compute on the same cores
constexpr milliseconds kAfterDownload{10'000};

// Of this thread alone. Where it is not allowed nothing is lost but politeness.
void be_polite(bool urgent) {
    constexpr int kWhoThread = 1, kClassShift = 13, kBestEffort = 2, kIdle = 3, kLevel = 4;
    static_cast<void>(::setpriority(PRIO_PROCESS, 0, kNice));
    int const io = urgent ? (kBestEffort << kClassShift) | kLevel : kIdle << kClassShift;
    static_cast<void>(::syscall(SYS_ioprio_set, kWhoThread, 0, io));
}

// False when it was told to stop.
bool sleep_unless(std::stop_token const& stop, steady_clock::duration time) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    static_cast<void>(never.wait_for(lock, stop, time, [] { return false; }));
    return !stop.stop_requested();
}

Error stopped() { return {Code::cancelled, "the job is to stop"}; }

// What is read of some files, at a pace.
class Reading {
public:
    Reading(jobs::Context& context, std::vector<ModelFile> const& files, std::uint64_t bytes_per_s)
        : context_(context), bytes_per_s_(bytes_per_s) {
        for (auto const& file : files) progress_.total += file.bytes;
    }

    void begin(std::string const& path) {
        progress_.text = fmt::format("reading {}", fs::path(path).filename().string());
        first_ = true;
    }

    // Before each piece; true when reading is to stop.
    bool next_piece() {
        // The first one of a file was not read yet.
        if (!std::exchange(first_, false))
            progress_.done = std::min(progress_.done + digest::kFilePieceBytes, progress_.total);
        if (!context_.report(progress_)) return true;
        if (bytes_per_s_ == 0) return context_.stop().stop_requested();
        auto const due =
            std::chrono::duration<double>(static_cast<double>(progress_.done) / static_cast<double>(bytes_per_s_));
        auto const early = std::chrono::duration_cast<steady_clock::duration>(due) - (steady_clock::now() - began_);
        return !sleep_unless(context_.stop(), std::max(early, steady_clock::duration::zero()));
    }

private:
    jobs::Context& context_;
    std::uint64_t const bytes_per_s_;
    steady_clock::time_point const began_ = steady_clock::now();
    jobs::Progress progress_;
    bool first_ = true;
};

// The model as the catalog has it after another look at the folders.
Result<catalog::Model> look_again(AtDesk const& at_desk, std::string const& name, std::stop_token const& stop) {
    std::optional<catalog::Model> found;
    auto const look = [&](Keeper::Desk& desk) -> Status {
        HEARTH_CHECK(desk.scan());
        HEARTH_TRY(auto* const catalog, desk.catalog());
        HEARTH_TRY(found, catalog->find(name));
        return ok();
    };
    HEARTH_CHECK(at_desk(look, stop));
    return *std::move(found);
}

bool any_differs(std::vector<ModelFile> const& read, std::vector<ModelFile> const& known) {
    return !std::ranges::equal(read, known, [](ModelFile const& a, ModelFile const& b) {
        return a.damage.empty() && (b.sha256.empty() || a.sha256 == b.sha256);
    });
}

bool any_is_fetched(std::vector<ModelFile> const& files) {
    return std::ranges::any_of(files, [](ModelFile const& file) { return fetch::is_being_fetched(file.path); });
}

Error being_fetched(std::string const& name) {
    return {Code::unavailable, fmt::format("model '{}' is being downloaded at the moment", name)};
}

// Whoever replaced the file on purpose may want it back.
void keep_aside(catalog::Model const& model) {
    for (auto const& file : model.files) {
        if (file.soundness != Soundness::damaged) continue;
        // Another server may have put the right one there since.
        auto const now = catalog::look_at(file.path);
        if (!now || !catalog::is_same_file(*now, file)) continue;
        std::error_code failed;
        auto const aside = file.path + std::string(kDamagedSuffix);
        fs::remove(aside, failed);
        fs::create_hard_link(file.path, aside, failed);
    }
}

jobs::Outcome never(Error error) { return {std::move(error), jobs::Retry::never}; }

}  // namespace

std::string to_payload(KeepWish const& wish) {
    nlohmann::ordered_json const json{{"model", wish.model}, {"urgent", wish.urgent}};
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Result<KeepWish> keep_wish_of(std::string const& payload) {
    auto const json = nlohmann::json::parse(payload, nullptr, false);
    bool const whole = json.is_object() && json.contains("model") && json["model"].is_string() &&
                       json.contains("urgent") && json["urgent"].is_boolean();
    if (!whole) return Error(Code::corrupt, "the payload of a job about a model is not one");
    return KeepWish{json["model"].get<std::string>(), json["urgent"].get<bool>()};
}

bool is_job_kind(std::string_view text) {
    constexpr std::array kKinds{kPullKind, kPushKind, kVerifyKind, kReadKind, kRestoreKind, kQuantizeKind};
    return std::ranges::find(kKinds, text) != kKinds.end();
}

std::string model_of(jobs::Job const& job) {
    // The payloads of all kinds have it by that name.
    auto const json = nlohmann::json::parse(job.payload, nullptr, false);
    bool const said = json.is_object() && json.contains("model") && json["model"].is_string();
    return said ? json["model"].get<std::string>() : std::string();
}

bool is_restorable(catalog::Model const& model) {
    bool const recorded = std::ranges::any_of(model.files, &ModelFile::recorded);
    return model.layout == catalog::Layout::folder && recorded && fetch::parse_reference(model.source).has_value();
}

Error damaged(catalog::Model const& model) {
    auto help = std::string("put the right file there, and it is served again");
    if (is_restorable(model))
        help = fmt::format("it is fetched again from {}: see /api/v1/jobs?kind=restore", model.source);
    else if (model.layout == catalog::Layout::ollama) help = fmt::format("`ollama pull {}` gets it again", model.name);
    else if (model.layout == catalog::Layout::hugging_face)
        help = "delete it from Hugging Face's cache and download it again";
    return {Code::unavailable, fmt::format("model '{}' is damaged: {}; {}", model.name, model.damage(), help),
            std::string(kDamaged)};
}

Error being_read(catalog::Model const& model) {
    return {Code::unavailable,
            fmt::format("the file of model '{}' changed, though its bytes are recorded, and is being read; ask again "
                        "in a moment",
                        model.name),
            std::string(kDamaged)};
}

Status check_sound(catalog::Model const& model) {
    if (model.unsettled()) return being_read(model);
    return model.damage().empty() ? ok() : Status(damaged(model));
}

Status note_pulled(Keeper::Desk& desk, fetch::Pulled const& pulled) {
    if (!desk.writes()) return ok();
    HEARTH_TRY(auto* const catalog, desk.catalog());
    auto const model = catalog->find(pulled.model);
    // Not every pull brings what can be found.
    if (!model) return ok();
    std::vector<ModelFile> read;
    for (auto const& file : model->files) {
        auto const came = std::ranges::find_if(pulled.files, [&](auto const& each) {
            std::error_code failed;
            return !each.sha256.empty() && fs::equivalent(each.path, file.path, failed);
        });
        if (came == pulled.files.end() || came->size != file.bytes) continue;
        read.push_back(file);
        read.back().sha256 = came->sha256;
        read.back().damage.clear();
    }
    HEARTH_TRY(auto const damage, catalog->record(model->name, read));
    static_cast<void>(damage);
    return desk.scan();
}

Status note_made(Keeper::Desk& desk, std::string const& name) {
    if (!desk.writes()) return ok();
    HEARTH_TRY(auto* const catalog, desk.catalog());
    auto const model = catalog->find(name);
    if (!model) return ok();  // another folder's model of that name goes before it
    auto replaced = model->files;
    std::erase_if(replaced, [](ModelFile const& file) { return file.soundness != Soundness::changed; });
    if (replaced.empty()) return ok();
    HEARTH_TRY(auto const damage, catalog->record(model->name, replaced));
    static_cast<void>(damage);
    return desk.scan();
}

// --- verify ------------------------------------------------------------------

Status VerifyHandler::read(jobs::Context& context, bool urgent, std::vector<ModelFile>& files) const {
    Reading reading(context, files, urgent ? 0 : pace_.bytes_per_s);
    for (auto& file : files) {
        reading.begin(file.path);
        file.damage.clear();
        auto hash = digest::sha256_of_file(file.path, [&] { return reading.next_piece(); });
        if (!hash && hash.error().code == Code::io) {
            file.damage = fmt::format("'{}' cannot be read", fs::path(file.path).filename().string());
            continue;
        }
        if (!hash) return hash.error();
        auto const now = catalog::look_at(file.path);
        if (!now || !catalog::is_same_file(*now, file))
            return Error(Code::unavailable, fmt::format("'{}' changed while it was read", file.path));
        file.sha256 = *std::move(hash);
    }
    return ok();
}

jobs::Outcome VerifyHandler::run(jobs::Context& context) {
    auto const wish = keep_wish_of(context.job().payload);
    if (!wish) return never(wish.error());
    auto const stop = context.stop();
    auto model = look_again(at_desk_, wish->model, stop);
    if (!model) return never(model.error());
    be_polite(wish->urgent || model->unsettled());
    auto files = model->files;
    if (auto const done = read(context, wish->urgent || model->unsettled(), files); !done)
        return {done, done.error().code == Code::unavailable ? jobs::Retry::yes : jobs::Retry::never};
    if (any_differs(files, model->files)) {
        if (any_is_fetched(files)) return {being_fetched(model->name), jobs::Retry::yes, kAfterDownload};
        if (!sleep_unless(stop, pace_.grace)) return {stopped(), jobs::Retry::yes};
    }
    std::string damage;
    auto const judged = at_desk_(
        [&](Keeper::Desk& desk) -> Status {
            HEARTH_CHECK(desk.scan());
            HEARTH_TRY(auto* const catalog, desk.catalog());
            HEARTH_TRY(damage, catalog->record(model->name, files));
            return desk.scan();
        },
        stop);
    if (!judged) return {judged, jobs::Retry::yes};
    if (!damage.empty()) return never(Error(Code::corrupt, std::move(damage)));
    return {ok()};
}

// --- restore -----------------------------------------------------------------

jobs::Outcome RestoreHandler::run(jobs::Context& context) {
    auto const wish = keep_wish_of(context.job().payload);
    if (!wish) return never(wish.error());
    auto const stop = context.stop();
    auto const model = look_again(at_desk_, wish->model, stop);
    if (!model) return never(model.error());
    if (model->damage().empty()) return {ok()};  // somebody was quicker
    auto const folder = fs::path(catalog::served_from(model->files)).parent_path().string();
    auto note = fetch::read_note(folder, model->name);
    if (!note || !is_restorable(*model))
        return never(Error(Code::unsupported, fmt::format("nobody says where model '{}' is from", model->name)));
    auto reference = fetch::parse_reference(note->source);
    if (!reference) return never(reference.error());
    keep_aside(*model);
    PullOrder order;
    order.reference = *std::move(reference);
    order.name = model->name;
    order.folder = folder;
    order.restore = *std::move(note);
    return pull_as_job(context, network_, std::move(order), [&](fetch::Pulled const& pulled) {
        return at_desk_(
            [&](Keeper::Desk& desk) -> Status {
                HEARTH_CHECK(desk.scan());
                return note_pulled(desk, pulled);
            },
            stop);
    });
}

}  // namespace hearth::library
