// Plan: the files a model consists of, where each comes from, and what it is
// called in the models folder.
//
// Threads: the planning functions run on the client's loop. Limits: kPlanFilesMax,
// and each function's own on what it reads.
// Errors:  of Client; `not_found` where there is no such model or no such choice
//          (what there is, is listed), `unsupported` with kRefused where whoever asks may
//          not have it, `corrupt` for an answer that breaks the protocol.
// Sources: the hub's and the registry's published APIs, as in docs/getting-models.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "fetch/client.h"
#include "fetch/sources/manifest.h"
#include "fetch/sources/note.h"
#include "fetch/sources/reference.h"
#include "net/task.h"

namespace hearth::fetch {

inline constexpr std::size_t kPlanFilesMax = 1000;

struct PlannedFile {
    std::string name;  // under the models folder: FILE, FOLDER/FILE or FOLDER/FOLDER/FILE, all file names
    Url url;
    std::string authorization;
    std::string sha256;                 // empty: unknown
    std::optional<std::uint64_t> size;
    bool adapter = false;               // on top of the first file; in their order
};

struct Plan {
    std::string model;   // what `hearth run` calls it
    std::string other_name;  // for make_way(); empty: it has none, or goes by it
    std::string source;  // to_string() of the reference
    std::string revision;
    // The first is the one by which the model is found: it is fetched last.
    std::vector<PlannedFile> files;
    // What a registry says beside: template, system, params, license.
    std::map<std::string, std::string> notes;
    std::vector<Layer> small_layers;  // the layers those were
};

struct HubOptions {
    std::string endpoint = "https://huggingface.co";
    std::string token;  // empty: none
};

// A repository with GGUF files: the chosen ones. Without: its safetensors, as a folder. `again`: what was noted of
// the files when they were pulled, which are chosen once more then, whatever the reference chooses; empty: of none.
net::Task<Result<Plan>> plan_hub(Client& client, HubReference reference, HubOptions options,
                                 std::vector<NotedFile> again = {});

// `plain_http`: also registries that are not this machine are asked without TLS.
net::Task<Result<Plan>> plan_registry(Client& client, RegistryReference reference, PlainHttp plain_http);

[[nodiscard]] Result<Plan> plan_url(UrlReference const& reference);

// Gives the model another name, and its files with it: by that it goes, and by no other. `invalid_argument` for what
// is no name.
[[nodiscard]] Status rename(Plan& plan, std::string const& name);

// Where `folder` has a model of that name from another source, with other bytes or on its way, the plan's is called
// by its other name: repositories publish files of one name. One without another name stays as it is.
// REQUIRES: a FolderLock of `folder`, if that is to hold on
void make_way(Plan& plan, std::string const& folder);

}  // namespace hearth::fetch
