// Starts `nnc lsp` for .nn files and hands everything on to it.
const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = () => {
  const command = workspace.getConfiguration("nn").get("path") || "nnc";
  client = new LanguageClient(
    "nn",
    "nn",
    { command, args: ["lsp"] },
    { documentSelector: [{ language: "nn" }] }
  );
  return client.start();
};

exports.deactivate = () => client && client.stop();
