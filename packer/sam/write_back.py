"""Writes an AWS SAM or CloudFormation template back, so that it points at what lpack built and still finds all the rest.

Which properties hold local paths is the rule of ``aws cloudformation package`` and of SAM CLI's build, which also fixes what
counts as one: every text that is neither absolute nor a URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from packer.core.errors import UsageError
from packer.core.names import image_name
from packer.core.records import BuildManifest
from packer.sam.loop_text import write_out_loops
from packer.sam.loops import LOOP
from packer.sam.resource import CODE_PROPERTIES, REMOTE_PREFIXES, SERVERLESS_FUNCTION
from packer.sam.template import Template
from packer.sam.yaml_edit import Edit, EditableText, EditConflict, Node, Value

LOCAL_PATHS: dict[str, tuple[str, ...]] = {
    "AWS::ApiGateway::RestApi": ("BodyS3Location",),
    "AWS::ApiGatewayV2::Api": ("BodyS3Location",),
    "AWS::AppSync::FunctionConfiguration": (
        "RequestMappingTemplateS3Location",
        "ResponseMappingTemplateS3Location",
        "CodeS3Location",
    ),
    "AWS::AppSync::GraphQLSchema": ("DefinitionS3Location",),
    "AWS::AppSync::Resolver": ("RequestMappingTemplateS3Location", "ResponseMappingTemplateS3Location", "CodeS3Location"),
    "AWS::CloudFormation::ModuleVersion": ("ModulePackage",),
    "AWS::CloudFormation::ResourceVersion": ("SchemaHandlerPackage",),
    "AWS::CloudFormation::Stack": ("TemplateURL",),
    "AWS::CloudFormation::StackSet": ("TemplateURL",),
    "AWS::ElasticBeanstalk::ApplicationVersion": ("SourceBundle",),
    "AWS::Glue::Job": ("Command.ScriptLocation",),
    "AWS::Lambda::Function": ("Code",),
    "AWS::Lambda::LayerVersion": ("Content",),
    "AWS::Serverless::Api": ("DefinitionUri",),
    "AWS::Serverless::Application": ("Location",),
    "AWS::Serverless::Function": ("CodeUri",),
    "AWS::Serverless::GraphQLApi": ("SchemaUri", "Functions.*.CodeUri", "Resolvers.*.*.CodeUri"),
    "AWS::Serverless::HttpApi": ("DefinitionUri",),
    "AWS::Serverless::LayerVersion": ("ContentUri",),
    "AWS::Serverless::StateMachine": ("DefinitionUri",),
    "AWS::Serverless::WebFunction": ("CodeUri",),
    "AWS::StepFunctions::StateMachine": ("DefinitionS3Location",),
}
"""Resource types, and the dotted paths of their properties that hold local paths; ``*`` stands for every key."""

# Local archives of images; a name such as `orders:latest` looks no different, so only a file that exists counts.
_IMAGE_PATHS = {"AWS::Serverless::Function": ("ImageUri",), "AWS::Lambda::Function": ("Code.ImageUri",)}
# Metadata of functions and layers that `sam build` reads relative to the template, and the CDK's own key.
_METADATA_PATHS = ("DockerContext", "ContextPath", "ProjectRootDirectory", "WorkingDirectory", "aws:asset:path")
_SERVERLESS = "AWS::Serverless::"
_PUBLISHING = "AWS::ServerlessRepo::Application"
_PUBLISHING_PATHS = ("LicenseUrl", "ReadmeUrl")

LAYERS_PROPERTY = "Layers"
"""The property of a function that lists its layers."""
_ONLY_OF_ARCHIVES = ("Handler", "Runtime", LAYERS_PROPERTY)
"""What AWS SAM refuses beside PackageType: Image; the image's own CMD names the handler."""
_CODE = "CodeUri"
_IGNORED = "IgnoreGlobals"
"""The attribute of a resource that lists what it does not take from Globals (AWS SAM specification, "Globals")."""

NO_IMAGES: Mapping[str, Path | str] = {}
NO_STACKS: Mapping[str, Path] = {}

_Place = tuple[Node, str]
"""A mapping (maybe an alias of one), and a key of it."""


class BuiltLayer(Struct, frozen=True, kw_only=True):
    """A layer that was made: the absolute path of its archive, what it fits, and the logical ids of its functions."""

    name: str
    path: Path
    runtimes: tuple[str, ...]
    architectures: tuple[str, ...]
    users: tuple[str, ...]


def layers_of_manifest(manifest: BuildManifest, out: Path) -> tuple[BuiltLayer, ...]:
    """Return the layers of a manifest whose files lie in ``out``, in an order in which each function has its own."""
    layers = manifest.layers
    order = dict.fromkeys(name for function in manifest.functions.values() for name in function.layers)
    return tuple(
        BuiltLayer(
            name=name,
            path=out / layers[name].path,
            runtimes=layers[name].runtimes,
            architectures=layers[name].architectures,
            users=layers[name].functions,
        )
        for name in order
        if name in layers
    )


def images_of_manifest(manifest: BuildManifest, out: Path) -> dict[str, Path | str]:
    """Return what each function that is an image is deployed from: its docker-archive, or else what `lpack load` calls it."""
    found: dict[str, Path | str] = {}
    for name, function in manifest.functions.items():
        if function.format == "image":
            paths = (function.artifact.path, *(function.image.also if function.image else ()))
            archive = next((out / path for path in paths if path.endswith(".tar")), None)
            found[name] = archive or f"{image_name(name)}:latest"
    return found


def write_template(
    template: Template,
    artifacts: Mapping[str, Path],
    destination: Path,
    layers: Sequence[BuiltLayer] = (),
    images: Mapping[str, Path | str] = NO_IMAGES,
    stacks: Mapping[str, Path] = NO_STACKS,
) -> bytes:
    """Return the template as it must stand in the file ``destination``.

    ``artifacts`` maps logical ids of the template's functions to what was built for them, as absolute paths; functions that are
    not among them keep their source. ``images`` are those of them that are images: a docker-archive, or a name in the engine.
    ``layers``, in the order in which functions get them, become resources, and loops that make functions are written out.
    ``stacks`` are the absolute paths where the templates of nested stacks are written, by their logical ids. All other bytes
    stay. Raises `UsageError` where YAML aliases forbid that, and for layers that cannot be added to.
    """
    unknown = artifacts.keys() - {function.logical_id for function in template.own}
    if unknown:
        raise ValueError(f"not functions of the template: {', '.join(sorted(unknown))}")
    text = EditableText.of(write_out_loops(template))
    move = _Move(old=template.path.parent.resolve(), new=destination.absolute().parent.resolve())
    built = {logical_id: move.relative(path.absolute()) for logical_id, path in artifacts.items() if logical_id not in images}
    uris = {
        logical_id: move.relative(image.absolute()) if isinstance(image, Path) else image
        for logical_id, image in images.items()
        if logical_id in artifacts
    }
    try:
        edits = (
            *_image_function_edits(text, uris),
            *_archive_edits(text, built, uris, layers, template.path),
            *_layer_declarations(text, move, layers),
            *_stack_edits(text, move, stacks),
            *_path_edits(text, move, {*artifacts, *stacks}),
        )
        return text.apply(edits).encode()
    except EditConflict as error:
        raise UsageError(
            f"{template.path}:{error.line}: functions that share this by a YAML alias cannot point to artifacts of their own",
            remedy="Write their Properties out for each function.",
        ) from error


class _Move(Struct, frozen=True, kw_only=True):
    """A move of the template from the folder ``old`` to the folder ``new``, both without symbolic links."""

    old: Path
    new: Path

    def rebase(self, value: str | None) -> str | None:
        """Return a local path as it reads after the move; None for anything else."""
        if value is None or value.startswith(REMOTE_PREFIXES) or Path(value).is_absolute():
            return None
        return self.relative(Path(os.path.normpath(self.old / value)))

    def rebase_file(self, value: str | None) -> str | None:
        """Do the same for a value that is a path only where it names a file."""
        return self.rebase(value) if value is not None and (self.old / value).is_file() else None

    def relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.new)).as_posix()


def _image_function_edits(text: EditableText, uris: Mapping[str, str]) -> Iterator[Edit]:
    """Point every function that was built as an image to that."""
    for logical_id, uri in uris.items():
        resource = _resource(text, logical_id)
        kind, properties = _type(resource), resource.get("Properties")
        if properties is not None and properties.real.is_mapping:
            yield from image_edits(text, resource, properties, kind, uri)
        else:
            yield text.put(resource, "Properties", image_properties(kind, uri))


def _archive_edits(
    text: EditableText, paths: Mapping[str, str], images: Collection[str], layers: Sequence[BuiltLayer], where: Path
) -> Iterator[Edit]:
    """Point every built function to its archive, whatever it said before, and to its layers beside those that it has."""
    functions: dict[str, Node] = {}
    for logical_id, kind, body in _typed_resources(text.root):
        properties = body.get("Properties") if kind in CODE_PROPERTIES and logical_id not in images else None
        if properties is not None and properties.real.is_mapping:
            functions[logical_id] = properties
    added: dict[str, list[Value]] = {}
    for logical_id, path in paths.items():
        resource = _resource(text, logical_id)
        code = CODE_PROPERTIES[_type(resource)]
        own: list[Value] = [{"Ref": _logical_id(layer.name)} for layer in layers if logical_id in layer.users]
        if logical_id in functions:
            yield text.put(functions[logical_id], code, path)
            added[logical_id] = own
        else:
            yield text.put(resource, "Properties", {code: path, **({LAYERS_PROPERTY: own} if own else {})})
    yield from attach_layers(text, where, functions, added)


def _stack_edits(text: EditableText, move: _Move, stacks: Mapping[str, Path]) -> Iterator[Edit]:
    """Point every nested stack to its written template."""
    for logical_id, path in stacks.items():
        resource = _resource(text, logical_id)
        properties = resource.get("Properties")
        if properties is not None:
            yield text.put(properties, LOCAL_PATHS[_type(resource)][0], move.relative(path))


def _layer_declarations(text: EditableText, move: _Move, layers: Sequence[BuiltLayer]) -> Iterator[Edit]:
    """Declare the layers: as AWS SAM does where its functions have them, else as CloudFormation."""
    resources = text.root.get("Resources") if layers else None
    if resources is None:
        return
    for layer in layers:
        serverless = any(_type(_resource(text, user)).startswith(_SERVERLESS) for user in layer.users)
        kind, content = (
            ("AWS::Serverless::LayerVersion", "ContentUri") if serverless else ("AWS::Lambda::LayerVersion", "Content")
        )
        properties: dict[str, Value] = {
            "LayerName": layer.name,
            content: move.relative(layer.path.absolute()),
            "CompatibleRuntimes": layer.runtimes,
            "CompatibleArchitectures": layer.architectures,
        }
        yield text.put(resources, _logical_id(layer.name), {"Type": kind, "Properties": properties})


def _logical_id(layer: str) -> str:
    """Return a layer's logical id, which has letters and digits alone (AWS CloudFormation, "Resources")."""
    return "Layer" + "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", layer))


def _path_edits(text: EditableText, move: _Move, built: Collection[str]) -> Iterator[Edit]:
    """Let every other local path still lead to the same file."""
    rules = ((_places(text.root, built), move.rebase), (_image_places(text.root), move.rebase_file))
    for places, rebase in rules:
        for mapping, key in places:
            value = mapping.get(key)
            path = value.real.text if value is not None else None
            moved = rebase(path)
            # A path that is written elsewhere, and only shows here, may get another value there.
            if moved is not None and (moved != path or mapping.own(key) is None):
                yield text.put(mapping, key, moved)


def _resource(text: EditableText, logical_id: str) -> Node:
    """Find a resource that reading the template has found before."""
    resources = text.root.get("Resources")
    resource = resources.get(logical_id) if resources else None
    if resource is None:
        raise ValueError(logical_id)
    return resource


def _places(root: Node, built: Collection[str]) -> Iterator[_Place]:
    """Find every place that may hold a local path, apart from the code of what was built."""
    for logical_id, kind, body in _typed_resources(root):
        paths = LOCAL_PATHS.get(kind, ()) if logical_id not in built else ()
        for path in paths:
            yield from _places_at(body, ["Properties", *path.split(".")])
        for name in _METADATA_PATHS:
            yield from _places_at(body, ["Metadata", name])
    for kind, paths in LOCAL_PATHS.items():
        for path in paths if kind.startswith(_SERVERLESS) else ():
            yield from _places_at(root, ["Globals", kind.removeprefix(_SERVERLESS), *path.split(".")])
    for name in _PUBLISHING_PATHS:
        yield from _places_at(root, ["Metadata", _PUBLISHING, name])
    yield from _include_places(root)


def _image_places(root: Node) -> Iterator[_Place]:
    for _, kind, body in _typed_resources(root):
        for path in _IMAGE_PATHS.get(kind, ()):
            yield from _places_at(body, ["Properties", *path.split(".")])


def _typed_resources(root: Node) -> Iterator[tuple[str, str, Node]]:
    """Return every resource's logical id, type and body."""
    resources = root.get("Resources")
    if resources is not None:
        yield from _in_section(resources)


def _in_section(section: Node) -> Iterator[tuple[str, str, Node]]:
    for key in section.names():
        body = section.get(key)
        if body is None:
            continue
        if key.startswith(LOOP) and body.real.items:
            yield from _in_section(body.real.items[-1])
        else:
            yield key, _type(body), body


def _type(resource: Node) -> str:
    kind = resource.get("Type")
    return (kind.real.text if kind else None) or ""


def _places_at(node: Node | None, keys: Sequence[str]) -> Iterator[_Place]:
    """Find the places at a path of keys below a node; none where the path breaks off."""
    if node is None or not node.real.is_mapping:
        return
    first, *rest = keys
    for key in node.names() if first == "*" else (first,):
        if rest:
            yield from _places_at(node.get(key), rest)
        elif node.get(key) is not None:
            yield node, key


def _include_places(node: Node) -> Iterator[_Place]:
    """Find the files that AWS::Include transforms name, which may stand anywhere."""
    name = node.own("Name")
    if name is not None and name.real.text == "AWS::Include":
        yield from _places_at(node, ["Parameters", "Location"])
    for child in (*node.items, *(value for _, value in node.pairs)):
        yield from _include_places(child)


def attach_layers(
    text: EditableText, where: Path, functions: Mapping[str, Node], added: Mapping[str, Sequence[Value]]
) -> Iterator[Edit]:
    """Return the edits that append the layers in ``added`` to functions' own.

    ``functions`` maps the logical ids of all functions of the template ``where`` to their Properties, which are mappings or
    aliases of such. One that takes its layers from elsewhere gets a list of its own, so that no other function's list changes;
    so does one that would inherit what another one gets. Raises `UsageError` for what cannot be copied or extended.
    """
    changed = {id(functions[name].real) for name, new in added.items() if new and functions[name].target is None}
    for name, properties in functions.items():
        new, own = added.get(name, ()), properties.own(LAYERS_PROPERTY)
        if own is not None and own.is_list and not own.anchor:
            if new:
                yield text.extend(own, LAYERS_PROPERTY, new)
        elif new or (own is None and any(id(each) in changed for each in _sources(properties))):
            yield text.put(properties, LAYERS_PROPERTY, [*_copied_layers(properties, name, where), *new])


def _sources(properties: Node) -> Iterator[Node]:
    """Return the mappings that this one takes keys from, by an alias or by merge keys."""
    if properties.target is not None:
        yield properties.target
    merged = properties.real.own("<<")
    for source in (merged.real.items or (merged,)) if merged is not None else ():
        yield source.real
        yield from _sources(source)


def _copied_layers(properties: Node, name: str, where: Path) -> list[str]:
    """Return the layers that a function has, which must be plain text to be written a second time."""
    listed = properties.get(LAYERS_PROPERTY)
    if listed is None or listed.real.is_null:
        return []
    texts = [item.real.text for item in listed.real.items if item.real.text is not None]
    is_shared = listed.target is None and properties.own(LAYERS_PROPERTY) is listed and bool(listed.anchor)
    if is_shared or not listed.real.is_list or len(texts) < len(listed.real.items):
        why = "others share the list by a YAML alias" if is_shared else "they are not a list of its own, and not all plain text"
        raise UsageError(
            f"{where}:{listed.line}: no layer can be added to the Layers of {name}, because {why}",
            remedy=f'Write the Layers of {name} out as a list, or set layers = "none" for this function.',
        )
    return texts


def image_properties(kind: str, uri: str) -> Mapping[str, Value]:
    """Return the properties of a function of a resource type that is an image."""
    return {"PackageType": "Image", **({"ImageUri": uri} if kind == SERVERLESS_FUNCTION else {"Code": {"ImageUri": uri}})}


def image_edits(text: EditableText, resource: Node, properties: Node, kind: str, uri: str) -> Iterator[Edit]:
    """Let a function be the image that ``uri`` names: the path of a docker-archive, or a name that the engine knows.

    Raises `EditConflict` where an alias brings what an image must not have.
    """
    serverless = kind == SERVERLESS_FUNCTION
    if properties.target is not None:
        raise EditConflict(properties.line)
    yield from text.recast(properties, image_properties(kind, uri), (*_ONLY_OF_ARCHIVES, *((_CODE,) if serverless else ())))
    shared = text.root.get("Globals")
    inherited = shared.get("Function") if shared is not None and serverless else None
    names = [name for name in (*_ONLY_OF_ARCHIVES, _CODE) if inherited is not None and inherited.get(name) is not None]
    known = resource.own(_IGNORED)
    if known is not None and known.is_list:
        listed = {item.text for item in known.items}
        more = [name for name in names if name not in listed]
        if more:
            yield text.extend(known, _IGNORED, more)
    elif names and known is None:
        yield text.put(resource, _IGNORED, names)
