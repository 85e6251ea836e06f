#include "app/template_trust.h"

#include <filesystem>
#include <memory>
#include <system_error>

#include <fmt/format.h>

#include "catalog/catalog.h"
#include "catalog/layouts.h"

namespace hearth::app {
namespace {

struct Opened {
    std::unique_ptr<catalog::Catalog> catalog;
    bool writes = false;
};

Result<Opened> open(std::string const& data_folder) {
    if (data_folder.empty()) return Error(Code::unavailable, "there is no data folder");
    auto const path = data_folder + "/catalog.db";
    auto writer = catalog::Catalog::open(path, catalog::Access::read_write);
    if (writer) return Opened{*std::move(writer), true};
    if (writer.error().code != Code::unavailable) return writer.error();
    HEARTH_TRY(auto reader, catalog::Catalog::open(path, catalog::Access::read_only));
    return Opened{std::move(reader), false};
}

std::string resolved(std::string const& path) {
    std::error_code failed;
    auto const real = std::filesystem::canonical(path, failed);
    return failed ? path : real.string();
}

bool is_served_from(catalog::Model const& model, std::string const& path) {
    return !model.files.empty() && resolved(catalog::served_from(model.files)) == resolved(path);
}

struct Compared {
    catalog::Pin pin = catalog::Pin::same;
    bool has_name = false;  // the catalog knows the model, and that it is served from there
};

// Whether it was the one before; nothing is said of a template that is seen for the first time.
Result<Compared> compare(TrustedModel const& model, std::string const& sha256, std::string const& data_folder) {
    HEARTH_TRY(auto const opened, open(data_folder));
    HEARTH_TRY(auto const pinned, opened.catalog->compare_file(model.name, model.source, sha256));
    if (pinned == catalog::Pin::now && opened.writes)
        HEARTH_CHECK(opened.catalog->confirm_file(model.name, model.source, sha256));
    auto const found = opened.catalog->find(model.name);
    return Compared{pinned, found && found->name == model.name && is_served_from(*found, model.source)};
}

}  // namespace

Status check_trust(TrustedModel const& model, std::string const& data_folder) {
    auto const sha256 = catalog::template_sha256_of(model.file);
    auto const compared = compare(model, sha256, data_folder);
    if (!compared)
        fmt::print(stderr, "hearth: the chat template of '{}' is not compared with what it was: {}\n", model.name,
                   compared.error().message);
    if (!compared || compared->pin != catalog::Pin::changed) return ok();
    return Error(Code::unsupported,
                 fmt::format("the chat template of '{}' is not the one it had at its first use; `hearth trust {}` "
                             "accepts the new one",
                             model.name, compared->has_name ? model.name : model.source));
}

Status confirm_trust(std::string const& name, std::string const& source, std::string const& data_folder) {
    auto const sha256 = catalog::template_sha256_of(source);
    if (sha256.empty()) return Error(Code::not_found, fmt::format("'{}' has no chat template", source), "model");
    HEARTH_TRY(auto const opened, open(data_folder));
    if (!opened.writes)
        return Error(Code::unavailable,
                     "another process keeps the catalog of models: `hearth trust NAME` asks the server to do it");
    // A model may be called otherwise than its file; what it is asked for by has the pin that counts then.
    HEARTH_TRY(auto const models, opened.catalog->list());
    for (auto const& model : models)
        if (is_served_from(model, source)) HEARTH_CHECK(opened.catalog->confirm_file(model.name, source, sha256));
    return opened.catalog->confirm_file(name, source, sha256);
}

}  // namespace hearth::app
