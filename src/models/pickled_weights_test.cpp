// Weights as Python pickles them are programs. Nothing here reads them, whatever a file of them is called.
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "models/gguf.h"
#include "models/report.h"
#include "models/safetensors.h"
#include "testing/temporary_folder.h"

namespace hearth::models {
namespace {

using namespace std::string_view_literals;

// os.system("touch owned"), by protocol 0 and by protocol 4.
constexpr auto kOld = "cos\nsystem\n(S'touch owned'\ntR."sv;
constexpr auto kNew =
    "\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x0btouch owned\x94\x85\x94R\x94."sv;

// As torch.save() does it: an archive with the pickle inside, not compressed.
std::string archived(std::string_view pickle) {
    std::string out("PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0"sv);
    for (int copy = 0; copy < 2; ++copy) {
        out += static_cast<char>(pickle.size());
        out += "\0\0\0"sv;
    }
    out += "\x10\0\0\0"sv;
    out += "archive/data.pkl";
    return out.append(pickle);
}

TEST(PickledWeights, AreRefusedWhateverTheyAreCalled) {
    hearth::testing::TemporaryFolder const folder;
    std::ofstream(folder / "config.json") << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})";
    for (auto const& bytes : {std::string(kOld), std::string(kNew), archived(kNew)}) {
        for (auto const* name : {"pytorch_model.bin", "model.pt", "model.ckpt", "model.gguf", "model.safetensors"}) {
            auto const path = folder / name;
            std::ofstream(path, std::ios::binary) << bytes << std::string(4096, '\0');
            EXPECT_FALSE(read_gguf_model(path)) << name;
            auto const report = check_any(path);
            EXPECT_FALSE(report.valid) << name;
            EXPECT_FALSE(report.problems.empty()) << name;
            EXPECT_FALSE(SafetensorsModel::open_file(path)) << name;
            EXPECT_FALSE(SafetensorsModel::open(folder.path())) << name << " in a model's folder";
            std::filesystem::remove(path);
        }
    }
    EXPECT_FALSE(std::filesystem::exists("owned"));
}

}  // namespace
}  // namespace hearth::models
